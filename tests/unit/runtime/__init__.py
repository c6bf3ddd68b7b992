"""Tests of the runtime: life cycle, health, metrics, settings, logging."""
