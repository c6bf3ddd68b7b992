"""What stands before the application: it sees a request before any of our code reads it. ASGI middlewares.

A page in somebody's browser can make a name of its own point at this machine, and send simple requests to it. It can choose neither the
Host its browser sends nor, without asking first, a JSON content type; so the first is checked here and the second in `reading`.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.codec.objects import write_object
from headrace_controller.api.statuses import StatusError, failure

_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))


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
