"""Tests of the dispatcher with the in-memory adapters."""
