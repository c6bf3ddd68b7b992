"""The ingress service: composition root, HTTP handling, settings and worker processes."""
