"""Tests of the parts of the Kubernetes API, without a server."""
