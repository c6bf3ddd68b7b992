"""The chart in a real cluster: `make test-chart`."""
