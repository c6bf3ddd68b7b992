"""Measurements: what an event costs, by process, over a real Kafka."""
