"""A kind of channel with a controller of its own, as a user of Headrace may write one: a Pipe posts
each event to its subscribers at once, and keeps nothing.

`PipeController` reads Pipes from the API, writes their status, and serves their addresses.
"""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

from tests.support.manifests import Manifest

GROUP = "test.headrace.dev"
API_VERSION = f"{GROUP}/v1"
KINDS = {"Pipe": "pipes", "KeyedPipe": "keyedpipes"}
CRDS = Path(__file__).with_name("crds.yaml")
_PERIOD_SECONDS = 0.05
_CALL_SECONDS = 5.0

Call = Callable[[str, str, Manifest | None], Manifest]
"""Calls the API: method, path, body."""


class PipeController:
    """Serves all Pipes until it is stopped. A refused or failed call is repeated at the next
    look.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._subscribers: dict[str, list[Mapping[str, Any]]] = {}
        self._stopped = threading.Event()
        self._http = urllib3.PoolManager(timeout=_CALL_SECONDS, retries=False)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(_PERIOD_SECONDS,)),
            threading.Thread(target=self._run),
        ]

    def start(self) -> None:
        """Start its threads."""
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Stop its threads."""
        self._stopped.set()
        self._server.shutdown()
        for each in self._threads:
            each.join()
        self._server.server_close()
        self._http.clear()

    def _run(self) -> None:
        while not self._stopped.wait(_PERIOD_SECONDS):
            for plural in KINDS.values():
                try:
                    found = self._call("GET", f"/apis/{API_VERSION}/{plural}", None)
                    for pipe in found.get("items") or ():
                        self._serve(plural, pipe)
                except (AssertionError, ValueError, urllib3.exceptions.HTTPError):
                    continue  # Not served (an answer without JSON), or a conflict.

    def _serve(self, plural: str, pipe: Manifest) -> None:
        namespace, name = pipe["metadata"]["namespace"], pipe["metadata"]["name"]
        entries = pipe.get("spec", {}).get("subscribers") or []
        path = f"/{namespace}/{plural}/{name}"
        self._subscribers[path] = entries
        status = {
            "address": {"url": f"http://127.0.0.1:{self._server.server_port}{path}"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "subscribers": [
                {
                    "uid": each["uid"],
                    "observedGeneration": each["generation"],
                    "ready": "True",
                }
                for each in entries
            ],
        }
        if pipe.get("status") != status:
            where = f"/apis/{API_VERSION}/namespaces/{namespace}/{plural}/{name}/status"
            self._call("PUT", where, {**pipe, "apiVersion": API_VERSION, "status": status})

    def deliver(self, path: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Post an event to every subscriber of a Pipe, and their replies; whether there is one."""
        if path not in self._subscribers:
            return False
        for each in self._subscribers[path]:
            answer = self._post(each.get("subscriberUri"), headers, body)
            reply = {} if answer is None else _event_headers(answer.headers)
            if answer is not None and reply:
                self._post(each.get("replyUri"), reply, answer.data)
        return True

    def _post(
        self, url: str | None, headers: Mapping[str, str], body: bytes
    ) -> urllib3.BaseHTTPResponse | None:
        return self._http.request("POST", url, headers=headers, body=body) if url else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        controller = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = controller.deliver(self.path, _event_headers(self.headers), body)
                self.send_response(202 if found else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _event_headers(headers: Any) -> dict[str, str]:
    """The attributes of an event in binary mode; empty if it is none."""
    event = {
        name: value
        for name, value in headers.items()
        if name.lower().startswith("ce-") or name.lower() == "traceparent"
    }
    if not any(name.lower() == "ce-id" for name in event):
        return {}
    return event | {"Content-Type": headers.get("Content-Type") or "application/json"}
