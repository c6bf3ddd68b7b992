"""The Helm chart in `charts/headrace`, rendered by helm and installed in a real API server."""
