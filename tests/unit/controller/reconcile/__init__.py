"""Tests of the reconcile functions: the decisions, without Kafka."""
