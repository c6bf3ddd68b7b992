"""Resources in a Kubernetes API server: the store of an installation in a cluster. Only here is the
Kubernetes client imported.
"""
