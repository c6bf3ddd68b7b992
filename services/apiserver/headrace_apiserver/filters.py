"""ASGI middlewares in front of the application.

A web page in a browser on this machine can make a name of its own resolve to it (DNS rebinding) and
send simple requests to it. It cannot choose the Host that the browser sends nor, without a CORS
preflight, a JSON content type. The first is checked here, the second in `requests.decoding`.
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
    """Forbids caching of every response, as the Kubernetes API server does: some contain
    Secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_uncached(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _NOT_CACHED]}
            await send(message)

        await self._app(scope, receive, send_uncached)


class HostCheck:
    """Rejects requests with another Host, and requests of web pages from another origin.

    Used on loopback addresses, where nothing else protects the API, and where the names of the API
    are configured.
    """

    def __init__(self, app: ASGIApp, *, names: Container[str] = frozenset()) -> None:
        """`names` are allowed besides loopback ones, in lower case and without ports."""
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle or reject one request."""
        why = self._rejection(Headers(scope=scope)) if scope["type"] == "http" else None
        if why is None:
            await self._app(scope, receive, send)
        else:
            await send_status(failure(403, "Forbidden", f"{why}; {_NEXT_STEP}"), send)

    def _rejection(self, headers: Headers) -> str | None:
        # All values of a repeated header: other software might use another one than the first.
        origins: Sequence[str | None] = headers.getlist("origin") or (None,)
        sites: Sequence[str | None] = headers.getlist("sec-fetch-site") or (None,)
        reasons = (
            refusal(headers.get("host", ""), origin, site, self._names)
            for origin in origins
            for site in sites
        )
        return next((why for why in reasons if why is not None), None)


async def send_status(error: StatusError, send: Send) -> None:
    """Send a Status as the response, without the framework."""
    body = write_object(error.status)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.retry_after_seconds:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    start: Message = {"type": "http.response.start", "status": error.code, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
    # Let other tasks run: the rest of a rejected request must not occupy the loop.
    await asyncio.sleep(0)
