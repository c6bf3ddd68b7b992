"""Responses to HTTP/1.0 clients: never chunked (RFC 9112, 7.1); a body without a length ends with
the connection (RFC 9112, 6.3).
"""

from typing import Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_BODILESS = (204, 304)


class Http10Responses:
    """Wraps the application for one HTTP/1.0 request."""

    def __init__(self, app: Any, cycle: RequestResponseCycle, *, keep_alive: bool) -> None:
        """`keep_alive`: the client asked to keep the connection. It is kept after responses with a
        Content-Length.
        """
        self._app = app
        self._cycle = cycle
        self._keep_alive = keep_alive
        self._until_close = False

    async def __call__(self, scope: Any, receive: Any, _send: Any) -> None:
        """Pass on one request."""
        await self._app(scope, receive, self.send)

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        cycle = self._cycle
        if message["type"] == "http.response.start" and not cycle.response_started:
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._until_close = b"content-length" not in names and scope_has_body(
                cycle, message["status"]
            )
            if not self._until_close:
                cycle.keep_alive = self._keep_alive and b"connection" not in names
                if cycle.keep_alive:
                    message = {
                        **message,
                        "headers": [*message.get("headers", ()), (b"connection", b"keep-alive")],
                    }
        if not self._until_close:
            await cycle.send(message)  # type: ignore[arg-type]
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected or cycle.response_complete:
            return
        if message["type"] == "http.response.start":
            cycle.response_started = True
            cycle.waiting_for_100_continue = False
            lines = [
                name + b": " + value + b"\r\n"
                for name, value in (*cycle.default_headers, *message.get("headers", ()))
            ]
            cycle.transport.write(
                b"".join((STATUS_LINE[message["status"]], *lines, b"connection: close\r\n\r\n"))
            )
            return
        cycle.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            cycle.response_complete = True
            cycle.message_event.set()
            cycle.transport.close()
            cycle.on_response()


def scope_has_body(cycle: RequestResponseCycle, status: int) -> bool:
    """Whether the response has a body whose end the client must find."""
    return cycle.scope["method"] != "HEAD" and status not in _BODILESS
