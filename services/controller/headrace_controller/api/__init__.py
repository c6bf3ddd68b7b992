"""The Kubernetes API that the controller serves by itself where there is no cluster: generic, it serves what definitions say."""
