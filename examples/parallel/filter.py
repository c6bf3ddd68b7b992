"""The filter of a branch: answers with the event to let it through, and without one to drop it.

python examples/parallel/filter.py [PORT]
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 1000


class Filter(BaseHTTPRequestHandler):
    """Lets events pass whose extension `amount` is at least 1000."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with the event, or with nothing."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        amount = self.headers.get("ce-amount", "")
        passes = amount.isdecimal() and int(amount) >= LARGE
        self.send_response(200)
        for name, value in self.headers.items() if passes else ():
            if name.lower().startswith("ce-") or name.lower() == "content-type":
                self.send_header(name, value)
        answer = body if passes else b""
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8092
    with ThreadingHTTPServer(("127.0.0.1", port), Filter) as server:
        print(f"filter listens on port {port}", flush=True)
        server.serve_forever()
