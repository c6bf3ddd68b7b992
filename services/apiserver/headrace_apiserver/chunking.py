"""Answers go out at the speed of their clients. An ASGI middleware, outermost.

The server takes a body as it is given, however large, and then the request counts as done. Given in
pieces, what a client has not fetched yet stays with its request: one piece is in the connection's
buffer, the request keeps its place among those at work, and it ends when the client is cut off.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHUNK_BYTES = 64 * 1024


class ChunkedResponses:
    """Passes the bodies of answers on in pieces of `CHUNK_BYTES` at most."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request."""

        async def chunked(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= CHUNK_BYTES:
                await send(message)
                return
            for begin in range(0, len(body), CHUNK_BYTES):
                end = begin + CHUNK_BYTES
                more = end < len(body) or message.get("more_body", False)
                await send({"type": message["type"], "body": body[begin:end], "more_body": more})

        await self._app(scope, receive, chunked)
