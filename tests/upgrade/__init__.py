"""A data directory of the previous version, and what the next version does with it."""
