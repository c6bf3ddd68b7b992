"""The adapter `container`: see `source`."""
