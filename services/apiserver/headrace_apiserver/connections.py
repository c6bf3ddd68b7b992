"""What one connection may cost before anybody knows who is there, and what a client that does not
read may cost afterwards.

uvicorn's protocol waits for ever for a request's head, keeps as much of it as comes, and keeps what
a client does not fetch. Here the head has a size and a deadline, the connections between requests
have a number, and a client that fetches nothing has an end.
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
"""Fed to the parser in one go: how far past a limit it can get before the limit is looked at."""
_FRAMING_PER_BODY_BYTE = 8
"""A chunk of one byte takes five more; a sender of such chunks is odd, one that sends nothing but
framing is hostile.
"""
_WRITE_BYTES_MAX = 64 * 1024
_LINGER_SECONDS = 0.5
"""A connection closed with bytes unread is reset, and a reset can overtake the refusal that the
client should read.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What a connection may cost."""

    head_bytes_max: int = 64 * 1024
    """Request line and headers of one request."""
    headers_max: int = 256
    head_seconds: float = 10.0
    """From the connection, or from the first byte of a later request, to the end of its head; also
    for a TLS handshake, and for the rest of a body whose request is answered already.
    """
    pipelined_max: int = 16
    """Requests that wait for the answer to the one before."""
    stall_seconds: float = 30.0
    """A client that has something to fetch and fetches nothing for so long is cut off."""


class HeadState(Enum):
    """How far the head of the next or present request is."""

    AWAITED = 0
    BEGUN = 1
    READ = 2


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds on what comes in before the application is called, and on
    what is not fetched.
    """

    def __init__(
        self, *, limiter: ConnectionLimiter, limits: ConnectionLimits, **uvicorns: Any
    ) -> None:
        super().__init__(**uvicorns)
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
        """Begin to wait for the first request."""
        self._written = CountingTransport(transport, self._raw_transport, self._watch_progress)
        super().connection_made(cast("asyncio.Transport", self._written))
        # asyncio does so only for sockets opened with the protocol's number; without, a body waits
        # 40 ms behind its headers.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # TLS would take half a megabyte of each answer before it says stop.
        transport.set_write_buffer_limits(high=_WRITE_BYTES_MAX)
        self._limiter.add(self)
        self._limiter.mark_idle(self)
        self._set_deadline()
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._limiter.remove(self)
        self._clear_deadline()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        if self._written is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let the parser have it, as long as it stays within the limits."""
        if self._written is None:
            # The end of a handshake and the first request came together.
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
                    f"the request's line and headers have more than {self._limits.head_bytes_max}"
                    " bytes"
                )
            elif len(self.pipeline) > self._limits.pipelined_max:
                self._rejected = True
                self.transport.abort()
        if self._head is HeadState.BEGUN or (
            self._head is HeadState.AWAITED
            and not self._unanswered
            and self.timeout_keep_alive_task is None
        ):
            # Also for bytes that begin nothing, such as line ends: they have just ended the
            # keep-alive timeout.
            self._set_deadline()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head = HeadState.BEGUN
        self._framing = self._body = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. What stands after the body is none: nothing of ours reads trailers."""
        if self._head is HeadState.READ or self._rejected:
            return
        if len(self.headers) >= self._limits.headers_max:
            self._reject_head(f"the request has more than {self._limits.headers_max} headers")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: the application is called."""
        if self._rejected:
            return
        version = self.parser.get_http_version()
        fault = head_error(version, self.headers)
        if fault is not None:
            self._reject(fault)
            return
        if version == "1.0":
            # RFC 9110, 10.1.1: such a client does not know the interim answer and would take it for
            # the answer.
            self.expect_100_continue = False
        self._head = HeadState.READ
        self._clear_deadline()
        self._limiter.mark_active(self)
        super().on_headers_complete()
        self._unanswered += 1

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._rejected:
            return
        self._framing -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there; another may follow."""
        if self._rejected:
            return
        self._head = HeadState.AWAITED
        if not self._unanswered:
            self._clear_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has been written, if perhaps not fetched."""
        self._unanswered -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            # It closes when everything has been fetched; nothing else would end the wait for that.
            self._watch_progress()
        elif not self._unanswered:
            self._limiter.mark_idle(self)
            if self._head is HeadState.READ:
                # A body that nobody wants any more; the next request stands behind it.
                self._set_deadline()

    def send_400_response(self, msg: str) -> None:
        """What the parser does not take."""
        self._reject(bad_request(f"{msg} HTTP/1.1 is spoken here (RFC 9112)"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Call the application."""
        if cycle.scope["http_version"] == "1.0":
            app = Http10Responses(app, cycle, keep_alive=_keeps_alive(cycle))
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client is behind: the application waits, and so do we, but not for ever."""
        super().pause_writing()
        self._watch_progress()

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come."""
        self.abort()

    def abort(self) -> None:
        """End the connection now: what the client has not fetched by now is lost."""
        if self._written is None or self._written.unsent_bytes:
            self.transport.abort()
        else:
            self.transport.close()

    def _set_deadline(self) -> None:
        if self._head_timer is None and not self._rejected:
            self._head_timer = self.loop.call_later(self._limits.head_seconds, self._head_is_late)

    def _clear_deadline(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._unanswered:
            # What waits behind a long answer is late by no fault of its own; the keep-alive timeout
            # follows the answer.
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
        """Say so, once, and end the connection. In the middle of another answer there is no place
        for words.
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
