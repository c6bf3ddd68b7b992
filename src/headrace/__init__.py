"""Headrace: Knative Eventing on Kafka, with or without Kubernetes."""

__version__ = "0.1.0"
