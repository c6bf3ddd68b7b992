"""Tests of the dispatcher's own rules, on in-memory twins."""
