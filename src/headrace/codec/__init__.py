"""Bytes to values and back: CloudEvents over HTTP, in JSON and in Kafka records, and the routing
table's records.

As pure as the domain; apart from it because it changes for another reason (specifications of
formats).
"""
