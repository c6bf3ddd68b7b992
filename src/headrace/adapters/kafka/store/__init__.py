"""The resource store in a compacted topic."""
