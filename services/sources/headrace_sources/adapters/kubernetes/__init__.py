"""ApiServerSource and KubernetesEventSource: changes of objects in a Kubernetes API."""
