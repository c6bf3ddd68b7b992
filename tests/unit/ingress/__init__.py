"""The HTTP door and the ingress behind it, on fakes."""
