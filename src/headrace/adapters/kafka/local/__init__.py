"""Kafka on the local machine, for `headrace up` and for tests: Apache Kafka as a process, or
librdkafka's mock cluster.
"""
