"""Two steps of a Sequence: each answers with an event whose type says which steps it has passed.

python examples/sequence/steps.py [PORT]
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Step(BaseHTTPRequestHandler):
    """A step by its path: `/check` answers an event of type `order` with `order.check`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with an event: the same one, with another type."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        for name, value in self.headers.items():
            if name.lower().startswith("ce-") or name.lower() == "content-type":
                step = self.path.strip("/")
                self.send_header(name, f"{value}.{step}" if name.lower() == "ce-type" else value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8091
    with ThreadingHTTPServer(("127.0.0.1", port), Step) as server:
        print(f"steps listen on port {port}", flush=True)
        server.serve_forever()
