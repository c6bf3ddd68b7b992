"""A data directory of the version before, and what the version after makes of it."""
