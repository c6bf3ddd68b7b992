"""A resource store on a Kubernetes API server, for an installation in a cluster. Only this package
imports the Kubernetes client.
"""
