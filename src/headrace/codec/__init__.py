"""Encoders and decoders for CloudEvents in HTTP, JSON and Kafka records, and for routing records.

Like the domain, this package does no I/O. It is separate because it changes for another reason: the
specifications of formats.
"""
