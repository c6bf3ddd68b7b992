"""Kafka as the backend of the reconcile: a channel is a topic, a subscription a consumer group with
a retry and a dead letter topic.
"""
