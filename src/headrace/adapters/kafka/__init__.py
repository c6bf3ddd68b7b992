"""Implementations of the ports with Apache Kafka. Only this package imports confluent-kafka."""
