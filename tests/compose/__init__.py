"""The compose file on a real Docker: `make test-compose`."""
