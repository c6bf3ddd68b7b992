"""Receives events and shows one line for each: `python subscriber.py [FAILING]`. FAILING is the
share of requests that it answers with 503, from 0 to 1. Needs the standard library only.
"""

import random
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8090
FAILING = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0


class Subscriber(BaseHTTPRequestHandler):
    """Answers 202, or 503 to a share of the requests."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        """Receive one event."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        status = 503 if random.random() < FAILING else 202
        amount, kind = self.headers.get("ce-amount"), self.headers.get("ce-type")
        print(f"{self.path} {kind} amount={amount}: {status}", flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing else."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), Subscriber).serve_forever()  # noqa: S104  # in a container, for the other containers
