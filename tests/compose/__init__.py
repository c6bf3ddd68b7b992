"""The compose file, for real: `make test-compose`."""
