"""Default ports that only the command line uses; those of the services are in
`headrace.runtime.sockets`.
"""

VIEWER_PORT = 8090
"""Port of the event viewer, used in examples/quickstart/quickstart.yaml."""
