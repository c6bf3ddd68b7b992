"""Implementations of the ports in `headrace.domain.ports`, one folder for each library."""
