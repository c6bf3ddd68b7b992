"""What stands before the application: it sees a request before any of our code reads it. ASGI middlewares.

A page in somebody's browser can make a name of its own point at this machine, and send simple requests to it. It can choose neither the
Host its browser sends nor, without asking first, a JSON content type; so the first is checked here and the second in `reading`.
"""

import asyncio

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.codec.objects import write_object
from headrace_controller.api.requests.options import asks_to_watch
from headrace_controller.api.statuses import StatusError, failure, too_many_requests

_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))
_PROBES = frozenset(("/healthz", "/livez", "/readyz"))
BUSY_MAX = 256
"""Requests at work at once, watches not counted; more are told to come again."""


class LocalOnly:
    """Refuses requests whose Host is not this machine's: only for an API that listens on a loopback address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse one request."""
        if scope["type"] == "http" and not is_loopback(Headers(scope=scope).get("host", "")):
            await refuse(failure(403, "Forbidden", "this API answers to localhost only; use http://127.0.0.1:PORT"), send)
        else:
            await self._app(scope, receive, send)


class Busy:
    """Refuses requests beyond a number at work at once, so that a flood of them costs neither memory nor the reconcile loop its turns."""

    def __init__(self, app: ASGIApp, *, limit: int = BUSY_MAX) -> None:
        self._app = app
        self._limit = limit
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse one request."""
        if scope["type"] != "http" or scope["path"] in _PROBES or _is_watch(scope):
            await self._app(scope, receive, send)
            return
        if self._working >= self._limit:
            await refuse(too_many_requests(f"{self._limit} requests are at work; please try again later"), send)
            return
        self._working += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._working -= 1


def _is_watch(scope: Scope) -> bool:
    # Bounded elsewhere: a watch is at work only when something happens.
    return scope["method"] == "GET" and bool(scope["query_string"]) and asks_to_watch(QueryParams(scope["query_string"]))


async def refuse(error: StatusError, send: Send) -> None:
    """Answer with a Status, without a framework."""
    body = write_object(error.status)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.retry_after_seconds:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    start: Message = {"type": "http.response.start", "status": error.code, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
    # The rest of a request that nobody reads must not hold the loop.
    await asyncio.sleep(0)


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine's loopback interface."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.lower() in _LOOPBACK_NAMES
