"""Ports that only the command line has an opinion on; those of the services are in
`headrace.runtime.sockets`.
"""

VIEWER_PORT = 8090
"""Of the event viewer, named by examples/quickstart/quickstart.yaml."""
