"""Topics and groups as the backend of the reconcile: a channel is a topic, a subscription a group
with a retry and a dead letter topic. It serves what has a `TopicAdmin`: Kafka and JetStream.
"""
