"""Runs in a pod: accepts every event and appends its id to a file: `python sink.py PORT FILE`.
Needs the standard library only.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RECEIVED = Path(sys.argv[2]).open("a", buffering=1)  # noqa: SIM115  # open as long as the process


class Sink(BaseHTTPRequestHandler):
    """Answers 202."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        """Receive one event."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        print(self.headers["ce-id"], file=RECEIVED)
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Sink).serve_forever()
