"""Objects as `kubectl get` prints them."""
