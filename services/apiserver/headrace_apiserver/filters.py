"""What stands before the application: it sees a request before any of our code reads it. ASGI
middlewares.

A page in somebody's browser can make a name of its own point at this machine, and send simple
requests to it. It can choose neither the Host its browser sends nor, without asking first, a JSON
content type; so the first is checked here and the second in `reading`.
"""

import asyncio
from collections.abc import Container, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.codec.local_request import refusal
from headrace.codec.objects import write_object
from headrace_apiserver.statuses import StatusError, failure

_NOT_CACHED = (b"cache-control", b"no-cache, private")
_NEXT_STEP = "use http://127.0.0.1:PORT, or allow the name with HEADRACE_CONTROLLER_API_HOSTS"


class CacheControl:
    """Says with every answer that nobody on the way may keep it, as Kubernetes' API server does:
    some hold Secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _NOT_CACHED]}
            await send(message)

        await self._app(scope, receive, marked)


class HostCheck:
    """Refuses requests that address another host, and requests of web pages from elsewhere.

    On a loopback address, where there is no other guard, and wherever the names of the API are
    known.
    """

    def __init__(self, app: ASGIApp, *, names: Container[str] = frozenset()) -> None:
        """`names` are allowed beside loopback ones, in lower case and without ports."""
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse one request."""
        why = self._fault(Headers(scope=scope)) if scope["type"] == "http" else None
        if why is None:
            await self._app(scope, receive, send)
        else:
            await send_status(failure(403, "Forbidden", f"{why}; {_NEXT_STEP}"), send)

    def _fault(self, headers: Headers) -> str | None:
        # Each of several: who reads the first only can be shown another than who reads the last.
        origins: Sequence[str | None] = headers.getlist("origin") or (None,)
        sites: Sequence[str | None] = headers.getlist("sec-fetch-site") or (None,)
        reasons = (
            refusal(headers.get("host", ""), origin, site, self._names)
            for origin in origins
            for site in sites
        )
        return next((why for why in reasons if why is not None), None)


async def send_status(error: StatusError, send: Send) -> None:
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
