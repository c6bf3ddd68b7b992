"""An API server that has nothing, for tests of the connection to it."""

from http.server import BaseHTTPRequestHandler

ANSWER = b'{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}'


class EmptyApi(BaseHTTPRequestHandler):
    """Has nothing: a client that receives this answer has accepted its certificate."""

    def do_GET(self) -> None:
        """Answer 404, and close the connection."""
        self.send_response(404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
