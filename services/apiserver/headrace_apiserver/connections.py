"""Limits of one connection: what it may cost before its client is authenticated, and what a client
that does not read may cost afterwards.

uvicorn's protocol waits without a deadline for the head of a request, buffers all that arrives of
it, and buffers what a client does not read. Here the head has a size limit and a deadline, the
number of idle connections is limited, and a client that reads nothing is disconnected.
"""

import asyncio
import socket
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headrace.codec.objects import write_object
from headrace_apiserver.connection_limiter import ConnectionLimiter
from headrace_apiserver.counting_transport import CountingTransport
from headrace_apiserver.http10 import Http10Responses
from headrace_apiserver.request_head import head_error
from headrace_apiserver.statuses import StatusError, bad_request, failure

_PIECE_BYTES = 4_096
"""Fed to the parser at a time, and so how far input can exceed a limit before it is checked."""
_FRAMING_PER_BODY_BYTE = 8
"""A chunk of one byte needs five more bytes of framing. A client may send such chunks, but not
framing alone.
"""
_WRITE_BYTES_MAX = 64 * 1024
_LINGER_SECONDS = 0.5
"""A connection that is closed with unread bytes is reset, and the client may see the reset before
it has read the error response.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of one connection."""

    head_bytes_max: int = 64 * 1024
    """Request line and headers of one request."""
    headers_max: int = 256
    head_seconds: float = 10.0
    """From the connection, or from the first byte of a later request, to the end of its head. Also
    the deadline of a TLS handshake, and of the rest of a body whose response has been sent.
    """
    pipelined_max: int = 16
    """Requests that wait for the response to the previous one."""
    stall_seconds: float = 30.0
    """A client that reads nothing of a pending response for so long is disconnected."""


class HeadState(Enum):
    """State of the head of the next or current request."""

    AWAITED = 0
    BEGUN = 1
    READ = 2


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on what is received before the application is called, and
    on what the client does not read.
    """

    def __init__(
        self, *, limiter: ConnectionLimiter, limits: ConnectionLimits, **options: Any
    ) -> None:
        super().__init__(**options)
        self._limiter = limiter
        self._limits = limits
        self._head = HeadState.AWAITED
        self._rejected = False
        self._unanswered = 0
        self._framing = 0
        self._body = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._sent_bytes = 0
        self._written: CountingTransport | None = None
        self._raw_transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def set_raw_transport(self, transport: asyncio.Transport) -> None:
        """The transport of the TLS layer, before `connection_made`."""
        self._raw_transport = transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        self._written = CountingTransport(transport, self._raw_transport, self._watch_progress)
        super().connection_made(cast("asyncio.Transport", self._written))
        # asyncio sets it only for sockets created with the number of the protocol. Without it, a
        # body arrives 40 ms after its headers.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With TLS the default buffers half a megabyte of each response before writing pauses.
        transport.set_write_buffer_limits(high=_WRITE_BYTES_MAX)
        self._limiter.add(self)
        self._limiter.mark_idle(self)
        self._set_deadline()
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the limiter and stop its timers."""
        self._limiter.remove(self)
        self._clear_deadline()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        if self._written is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser while the limits allow it."""
        if self._written is None:
            # The end of a handshake and the first request arrived together.
            self._early.append(data)
            return
        for begin in range(0, len(data), _PIECE_BYTES):
            if self._rejected or self.transport.is_closing():
                return
            piece = data if len(data) <= _PIECE_BYTES else data[begin : begin + _PIECE_BYTES]
            super().data_received(piece)
            self._framing += len(piece)
            if self._framing > self._limits.head_bytes_max + _FRAMING_PER_BODY_BYTE * self._body:
                self._reject_head(
                    "the request line and headers have more than"
                    f" {self._limits.head_bytes_max} bytes"
                )
            elif len(self.pipeline) > self._limits.pipelined_max:
                self._rejected = True
                self.transport.abort()
        if self._head is HeadState.BEGUN or (
            self._head is HeadState.AWAITED
            and not self._unanswered
            and self.timeout_keep_alive_task is None
        ):
            # Also for bytes that start no request, such as line ends: they have just cancelled the
            # keep-alive timeout.
            self._set_deadline()

    def on_message_begin(self) -> None:
        """A request starts."""
        self._head = HeadState.BEGUN
        self._framing = self._body = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Accept a header. Trailers after the body are ignored: nothing reads them."""
        if self._head is HeadState.READ or self._rejected:
            return
        if len(self.headers) >= self._limits.headers_max:
            self._reject_head(f"the request has more than {self._limits.headers_max} headers")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head and call the application."""
        if self._rejected:
            return
        version = self.parser.get_http_version()
        error = head_error(version, self.headers)
        if error is not None:
            self._reject(error)
            return
        if version == "1.0":
            # RFC 9110, 10.1.1: such a client does not know interim responses and would take one for
            # the final response.
            self.expect_100_continue = False
        self._head = HeadState.READ
        self._clear_deadline()
        self._limiter.mark_active(self)
        super().on_headers_complete()
        self._unanswered += 1

    def on_body(self, body: bytes) -> None:
        """Accept a part of the body."""
        if self._rejected:
            return
        self._framing -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; another may follow."""
        if self._rejected:
            return
        self._head = HeadState.AWAITED
        if not self._unanswered:
            self._clear_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A response has been written, though perhaps not read by the client."""
        self._unanswered -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            # It closes when the client has read everything; nothing else limits that wait.
            self._watch_progress()
        elif not self._unanswered:
            self._limiter.mark_idle(self)
            if self._head is HeadState.READ:
                # The rest of a body that is no longer needed; the next request is behind it.
                self._set_deadline()

    def send_400_response(self, msg: str) -> None:
        """Respond to what the parser rejects."""
        self._reject(bad_request(f"{msg} This server speaks HTTP/1.1 (RFC 9112)"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Call the application."""
        if cycle.scope["http_version"] == "1.0":
            app = Http10Responses(app, cycle, keep_alive=_keeps_alive(cycle))
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client reads slowly: the application waits, up to the stall limit."""
        super().pause_writing()
        self._watch_progress()

    def timeout_keep_alive_handler(self) -> None:
        """No further request arrived in time."""
        self.abort()

    def abort(self) -> None:
        """End the connection now; what the client has not read is lost."""
        if self._written is None or self._written.unsent_bytes:
            self.transport.abort()
        else:
            self.transport.close()

    def _set_deadline(self) -> None:
        if self._head_timer is None and not self._rejected:
            self._head_timer = self.loop.call_later(
                self._limits.head_seconds, self._on_head_timeout
            )

    def _clear_deadline(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._unanswered:
            # A request behind a long response could not arrive earlier; the keep-alive timeout
            # starts after the response.
            return
        if self._head is HeadState.BEGUN:
            self._reject(
                failure(
                    408,
                    "Timeout",
                    f"the request's headers did not arrive within {self._limits.head_seconds:g} s",
                )
            )
        else:
            self.abort()

    def _reject_head(self, why: str) -> None:
        self._reject(failure(431, "RequestHeaderFieldsTooLarge", f"{why}, which is the limit"))

    def _reject(self, error: StatusError) -> None:
        """Send the error, once, and end the connection. If a response is in progress, only end the
        connection.
        """
        if self._rejected:
            return
        self._rejected = True
        if self._unanswered:
            self.transport.abort()
            return
        body = write_object(error.status)
        head = (
            "content-type: application/json\r\ncache-control: no-cache, private\r\ncontent-length:"
            f" {len(body)}\r\nconnection: close"
        )
        self.transport.write(
            f"HTTP/1.1 {error.code} {HTTPStatus(error.code).phrase}\r\n{head}\r\n\r\n".encode()
            + body
        )
        self._clear_deadline()
        self._head_timer = self.loop.call_later(_LINGER_SECONDS, self.abort)

    def _watch_progress(self) -> None:
        if self._stall_timer is None and self._written is not None:
            self._sent_bytes = self._written.sent_bytes
            self._stall_timer = self.loop.call_later(
                self._limits.stall_seconds, self._check_progress
            )

    def _check_progress(self) -> None:
        self._stall_timer = None
        if self._written is None or not self._written.unsent_bytes:
            return
        if self._written.sent_bytes > self._sent_bytes:
            self._watch_progress()
        else:
            self.transport.abort()


def _keeps_alive(cycle: RequestResponseCycle) -> bool:
    values = [value.lower() for name, value in cycle.scope["headers"] if name == b"connection"]
    return any(b"keep-alive" in (token.strip() for token in value.split(b",")) for value in values)
