"""Subscribers of both versions: a server in a thread, a path and an answer for each subscriber."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

ACCEPTED = 202
HOLD_SECONDS = 300.0
Answer = Callable[[str], int | None]
"""The status for the event of this id; None holds the request until the server stops."""


class Sink:
    """Accepts events on `<url>/<path>`; 202 unless `answers` returns another status."""

    def __init__(self, host: str, answers: Mapping[str, Answer] | None = None) -> None:
        self._answers = dict(answers or {})
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._arrivals: list[tuple[str, str]] = []
        self._accepted: list[tuple[str, str]] = []
        self._server = _Server((host, 0), self._handler())
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.05,), daemon=True)

    def __enter__(self) -> "Sink":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        """The prefix of all subscribers' addresses."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def arrivals(self, path: str | None = None) -> list[tuple[str, str]]:
        """Path and id of every request, in the order of arrival."""
        with self._lock:
            return [each for each in self._arrivals if path in (None, each[0])]

    def accepted(self, path: str | None = None) -> list[tuple[str, str]]:
        """Path and id of those that were answered with 202."""
        with self._lock:
            return [each for each in self._accepted if path in (None, each[0])]

    def _answer(self, path: str, event: str) -> int | None:
        with self._lock:
            self._arrivals.append((path, event))
        status = self._answers[path](event) if path in self._answers else ACCEPTED
        if status == ACCEPTED:
            with self._lock:
                self._accepted.append((path, event))
        return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer, ended = self._answer, self._ended

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = HOLD_SECONDS
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                kind = self.headers.get("content-type", "")
                structured = kind.startswith("application/cloudevents+json")
                event = json.loads(body)["id"] if structured else self.headers.get("ce-id", "")
                status = answer(self.path.lstrip("/"), event)
                if status is None:
                    ended.wait(HOLD_SECONDS)
                    self.close_connection = True
                    return
                said = b"" if status == ACCEPTED else b"not now"
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A dispatcher that stops closes its connections."""
