"""A Callable: it answers each event of type `question` with an event of type `answer`.

python3 examples/legacy/function.py 8091
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Function(BaseHTTPRequestHandler):
    """Takes an event in binary mode."""

    def do_POST(self) -> None:
        """Answer with an event, or without one to what is no question."""
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers["ce-type"] != "question":
            self.send_response(202)
            self.end_headers()
            return
        answer = json.dumps(f"you asked: {json.loads(data)}").encode()
        self.send_response(200)
        for name, value in (
            ("ce-specversion", "1.0"),
            ("ce-id", f"answer-to-{self.headers['ce-id']}"),
            ("ce-source", "/function"),
            ("ce-type", "answer"),
            ("content-type", "application/json"),
            ("content-length", str(len(answer))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Function).serve_forever()
