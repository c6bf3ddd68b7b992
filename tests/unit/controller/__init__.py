"""Tests of the controller without Kafka: decisions, and the loop over memory adapters."""
