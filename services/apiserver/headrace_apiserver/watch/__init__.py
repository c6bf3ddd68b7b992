"""Watches: the recent changes of the store, and their delivery to clients."""
