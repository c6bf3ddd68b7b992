"""Sends large responses in chunks, at the speed of the client. The outermost ASGI middleware.

uvicorn buffers a body of any size at once, and then the request counts as done. With chunks, only
one is in the buffer of the connection, and the request stays in flight, and counts against the
limit, until the client has read the response or is disconnected.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHUNK_BYTES = 64 * 1024


class ChunkedResponses:
    """Sends the bodies of responses in chunks of at most `CHUNK_BYTES`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

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
