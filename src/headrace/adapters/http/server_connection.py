"""One client connection of the HTTP server, which handles one request at a time.

A request is passed to the handler when its last byte has been received. The next one is parsed only
after the response, because a pipelining client must never read another event's 202. Pipelined data
is kept unparsed, at most one read of it, and reading pauses. Only the head is parsed by the parser
library; the end of a message is determined here.

The phases and their transitions:

    HEAD ──headers complete──► BODY ──last byte──► ANSWER ──response──► IDLE ──first byte──► HEAD
      └────────── rejected, or the response is the last ───────────► LINGER ──end of input, or
      time──► CLOSED
"""

import asyncio
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol, cast

import httptools

from headrace.adapters.http.server_body import ChunkedBody, LengthBody, too_large
from headrace.adapters.http.server_connection_event import ConnectionEvent
from headrace.adapters.http.server_exchange import Exchange
from headrace.adapters.http.server_head import (
    RequestHead,
    RequestRejected,
    check_request_line,
    read_framing,
    reject_coding,
    reject_long_head,
    reject_long_target,
    reject_method,
    reject_unfinished,
)
from headrace.adapters.http.server_limits import ServerLimits
from headrace.adapters.http.server_local_guard import LocalGuard
from headrace.adapters.http.server_repeated_head import (
    RepeatedHead,
    RepeatedHeads,
    no_head,
)
from headrace.adapters.http.server_response import (
    CLOSE_LINE,
    CONTINUE,
    KEEP_ALIVE_LINE,
    Fields,
    response_head,
)

_TURN_REQUESTS_MAX: Final = 32
"""Requests of one pipelining client handled before control returns to the event loop."""
_HEAD_END: Final = b"\r\n\r\n"


class Phase(IntEnum):
    """The state of a connection: what it waits for."""

    HEAD = 0
    BODY = 1
    ANSWER = 2
    IDLE = 3
    LINGER = 4
    CLOSED = 5


# Aliases, because reading a member through its enum class costs ten times as much as a global,
# fifteen times a request.
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_ANSWER: Final = Phase.ANSWER
_IDLE: Final = Phase.IDLE
_LINGER: Final = Phase.LINGER
_CLOSED: Final = Phase.CLOSED
_NOT_READING: Final = frozenset({_ANSWER, _LINGER, _CLOSED})
_IDLE_RANKS: Final = {_IDLE: 0, _HEAD: 1, _LINGER: 2}
_SPARED_SECONDS: Final = 0.1
"""How long a connection is protected from eviction if its request has just begun, has not begun
yet, or was rejected.
"""


class ConnectionOwner(Protocol):
    """The server that a connection belongs to. The connection does not change its attributes."""

    limits: ServerLimits
    loop: asyncio.AbstractEventLoop
    guard: LocalGuard | None
    now: float
    """The event loop's time at the last sweep, in seconds."""
    date_line: bytes
    """The `date` field and the empty line that end the head of every response."""
    repeated_heads: RepeatedHeads
    """Heads that the parser has read."""
    draining: bool
    """Whether each connection is closed after its next response."""
    admit: Callable[[Exchange], None]
    """The admission hook, which decides whether the body is read. May raise."""

    @property
    def is_full(self) -> bool:
        """Whether a rejected connection is closed without a response."""
        ...

    def opened(self, connection: "ServerConnection") -> RequestRejected | None:
        """Register a new connection; return a rejection if there are too many."""
        ...

    def closed(self, connection: "ServerConnection") -> None:
        """Remove a closed connection."""
        ...

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Answer a request for which the admission hook has raised."""
        ...

    def count(self, event: ConnectionEvent) -> None:
        """Count an action that a limit caused on a connection."""
        ...

    def handle(self, exchange: Exchange) -> None:
        """Pass a complete request to the handler."""
        ...

    def refused(self, refusal: RequestRejected, /) -> tuple[Fields, bytes]:
        """Create the header fields and body of a response that the connection sends on its own."""
        ...

    def hold(self, more: int) -> bool:
        """Reserve `more` bytes for incomplete heads; return False if the limit is exceeded.

        A negative number releases bytes.
        """
        ...

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes for incomplete bodies; return False if the limit is exceeded."""
        ...

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        ...


class ServerConnection(asyncio.Protocol):
    """The protocol object of one accepted socket."""

    def __init__(self, server: ConnectionOwner) -> None:
        self.server = server
        self.peer = ""
        self.phase = _HEAD
        self.since = server.now
        """When the current phase began, on the server's coarse clock."""
        self.last = False
        """Whether the current response is the last of this connection."""
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: httptools.HttpRequestParser | None = None
        self._exchange: Exchange | None = None
        self._body: LengthBody | ChunkedBody | None = None
        self._reserved = 0
        self._held = 0
        """Bytes of `_kept` and `_unfinished` that the server has counted."""
        self._kept = b""
        self._unfinished = bytearray()
        self._old = False
        """Whether the current request is HTTP/1.0."""
        self._written = 0
        self._read_by_client = self._progress_at = 0.0
        """Written bytes that have left the process, and when that number last grew, as of the last
        sweep that found bytes waiting.
        """
        self._reading_paused = self._writing_paused = self._advancing = False
        self._repeated: Callable[[], RepeatedHead | None] = no_head
        self._target = b""
        self._fields: list[bytes] = []
        """Name, value, name, value … of the current request."""
        self._head_complete = self._keep_alive = False

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        """Append a part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Append a header field."""
        fields = self._fields
        fields.append(name)
        fields.append(value)

    def on_headers_complete(self) -> None:
        """Record that the head is valid, and whether the connection is kept alive.

        The parser is asked here because it discards `Connection` afterwards if the request has no
        body.
        """
        self._head_complete = True
        if self._parser is not None:
            self._keep_alive = self._parser.should_keep_alive()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, or reject it immediately if there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else "local"
        refusal = self.server.opened(self)
        if refusal is not None:
            if self.server.is_full:
                self._transport.abort()
                return
            self._refuse(refusal)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Discard the current request; the outcome of its event is not reported."""
        del exc
        self.phase = _CLOSED
        if self._exchange is not None:
            self._exchange.forget()
            self._exchange = None
        self._drop_input()
        self._parser = None
        self.server.closed(self)

    def eof_received(self) -> bool:
        """Handle the end of the client's data; the client may still read."""
        if self.phase is _ANSWER and self._transport.get_extra_info("sslcontext") is None:
            self.last = True
            return True
        return False

    def pause_writing(self) -> None:
        """Stop handling requests, because the client does not read its responses."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Continue to handle requests, because the client reads again."""
        self._writing_paused = False
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Process bytes from the client."""
        phase = self.phase
        if phase is _IDLE and not (self._kept or self._writing_paused):
            head = self._repeated()
            if head is not None and (found := head.read(data)) is not None:
                server = self.server
                self.last, self._old = server.draining, False
                values, body = found
                size, size_max = len(body), server.limits.body_bytes_max
                self._complete(Exchange(self, head, values, size, size_max), body)
                return
        if (phase is _IDLE or phase is _HEAD) and not (
            self._kept or self._unfinished or self._writing_paused
        ):
            rest = self._take(data, 0)
            if rest < len(data) and self.phase < _LINGER:
                self._kept = data[rest:]
                self._advance()
        elif phase < _LINGER:
            self._kept += data
            self._advance()

    def _advance(self) -> None:
        """Process the kept bytes as far as the phase allows, some requests at a time."""
        if self._advancing or self._transport.is_closing():
            return
        self._advancing = True
        kept, at, turns = self._kept, 0, 0
        while (
            at < len(kept)
            and not self._writing_paused
            and turns < _TURN_REQUESTS_MAX
            and self.phase not in _NOT_READING
        ):
            if self._transport.is_closing():
                break
            at = self._take(kept, at)
            turns += 1
        self._advancing = False
        if self.phase >= _LINGER:
            return
        self._kept = kept[at:]
        if (self._kept or self._held) and not self._count_held():
            self._drop_pipelined()
            return
        if self._kept:
            self._pause_reading()
            if turns == _TURN_REQUESTS_MAX:
                self.server.loop.call_soon(self._advance)
        else:
            self._resume_reading()

    def _count_held(self) -> bool:
        """Report the size of incomplete heads and pipelined data to the server.

        Returns False if the limit for all connections is exceeded.
        """
        size = len(self._unfinished) + len(self._kept)
        if not self.server.hold(size - self._held):
            return False
        self._held = size
        return True

    def _drop_pipelined(self) -> None:
        """Discard pipelined data that exceeds the limit, and close after the current response, so
        that the client sends it again to another server.
        """
        if self.phase is _ANSWER:
            self._pause_reading()
            self._kept, self.last = b"", True
            self._count_held()
        else:
            self._refuse(_server_full())

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _take(self, data: bytes, at: int) -> int:
        """Process `data` from `at` in the current phase; return the index of the rest."""
        try:
            if self.phase is _BODY:
                return self._take_body(data, at)
            if not self._unfinished and (end := data.find(_HEAD_END, at)) >= 0:
                return self._begin(data[at : end + 4], data, end + 4)
            return self._take_part_of_head(data, at)
        except RequestRejected as refusal:
            self._refuse(refusal)
            return len(data)

    def _take_part_of_head(self, data: bytes, at: int) -> int:
        if self._unfinished:
            searched = max(0, len(self._unfinished) - 3)
            before = len(self._unfinished)
            self._unfinished += data[at:]
            end = self._unfinished.find(_HEAD_END, searched)
            if end < 0:
                reject_unfinished(self._unfinished, self.server.limits)
                if not self._count_held():
                    raise _server_full()
                return len(data)
            head = bytes(self._unfinished[: end + 4])
            self._unfinished.clear()
            self._count_held()
            return self._begin(head, data, at + len(head) - before)
        if self.phase is _IDLE:
            self.phase, self.since = _HEAD, self.server.now
        self._unfinished += data[at:]
        reject_unfinished(self._unfinished, self.server.limits)
        if not self._count_held():
            raise _server_full()
        return len(data)

    def _begin(self, head: bytes, data: bytes, at: int) -> int:
        """Handle a complete head, whose body begins at `at`."""
        server = self.server
        parsed = self._parse(head)
        length, chunked, _, _ = parsed.framing
        guard = server.guard
        if guard is not None and not guard.trusts(parsed):
            self._repeated = no_head  # each request has to be checked
            guard.check(parsed.host, tuple(zip(parsed.names, parsed.values, strict=True)))
        self.last = server.draining or not self._keep_alive
        exchange = Exchange(
            self,
            parsed,
            parsed.values,
            -1 if chunked else length,
            server.limits.body_bytes_max,
        )
        end = at + length
        if chunked or end > len(data):
            return self._await_body(exchange, data, at)
        body = data[at:end]
        if length and self._parser is not None:
            self._parser.feed_data(body)  # so that it expects a head again
        self._complete(exchange, body)
        return end

    def _complete(self, exchange: Exchange, body: bytes) -> None:
        """Handle a request whose body has arrived with its head."""
        self._exchange = exchange
        try:
            self.server.admit(exchange)
        except Exception as error:
            self.server.failed(exchange, error)
        if exchange._connection is None:
            if self.last:
                self._linger()
            else:
                self.phase, self.since = _IDLE, self.server.now
        elif len(body) > exchange.body_bytes_max:
            self._refuse(too_large(exchange.body_bytes_max))
        else:
            self.phase, self.since = _ANSWER, self.server.now
            exchange.body = body
            self.server.handle(exchange)

    def _await_body(self, exchange: Exchange, data: bytes, at: int) -> int:
        """Read the body, of which a part begins at `at`."""
        self._exchange = exchange
        last = self.last
        # After a response before the body is read, the start of the next request is unknown.
        self.last = True
        try:
            self.server.admit(exchange)
        except Exception as error:
            self.server.failed(exchange, error)
        if exchange._connection is None:
            self._linger()
            return len(data)
        self.last = last
        length, chunked, expects_continue, _ = exchange.head.framing
        if length > exchange.body_bytes_max:
            raise too_large(exchange.body_bytes_max)
        self._body = ChunkedBody(exchange.body_bytes_max) if chunked else LengthBody(length)
        self.phase, self.since = _BODY, self.server.now
        if expects_continue:
            self._write(CONTINUE)
        return self._take_body(data, at) if at < len(data) else at

    def _parse(self, head: bytes) -> RequestHead:
        limits = self.server.limits
        if len(head) > limits.head_bytes_max:
            reject_long_head(head, limits)
        fields = self._fields = []
        self._target = b""
        self._head_complete = False
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # The client offers another protocol, which a server may ignore (RFC 9110, 7.8). The
            # parser cannot be used afterwards.
            self._parser = None
        except httptools.HttpParserInvalidMethodError:
            reject_method(head)
        except httptools.HttpParserError as error:
            if b" HTTP/1.1\r\n" in head:
                reject_coding(fields[::2], fields[1::2])
            raise RequestRejected(400, f"the request is not HTTP/1.1: {error}") from None
        if not self._head_complete:
            raise RequestRejected(400, "the request has no request line")
        target = self._target
        if len(target) > limits.target_bytes_max:
            reject_long_target(limits)
        method = parser.get_method()
        old = False
        if not head.startswith(b" HTTP/1.1\r\n", len(method) + len(target) + 1):
            check_request_line(head)
            old = parser.get_http_version() == "1.0"
        self._old = old
        sent, values = tuple(fields[::2]), tuple(fields[1::2])
        framing, host, names = read_framing(sent, values, limits, old=old)
        parsed = RequestHead(method, target, names, values, host, framing)
        if framing[1]:
            self._parser = None  # it would wait for chunks that it does not receive
        elif self._keep_alive and not old:
            self._repeated = self.server.repeated_heads.remember(head, sent, parsed)
        return parsed

    def _take_body(self, data: bytes, at: int) -> int:
        body, exchange = self._body, self._exchange
        assert body is not None and exchange is not None  # noqa: S101 - what BODY means
        end = body.feed(data, at)
        if not self.server.reserve(end - at):
            raise RequestRejected(
                503,
                "too many bytes of request bodies are waiting for their ends; send it again later",
            )
        self._reserved += end - at
        if body.complete:
            value = body.value()
            self.server.release(self._reserved)
            self._reserved, self._body = 0, None
            if value and self._parser is not None:
                self._parser.feed_data(value)
            self.phase, self.since = _ANSWER, self.server.now
            exchange.body = value
            self.server.handle(exchange)
        return end

    def _drop_input(self) -> None:
        self.server.release(self._reserved)
        self._reserved, self._body, self._kept = 0, None, b""
        self._unfinished.clear()
        self._count_held()

    # Responses.

    def answer(self, head: bytes, body: bytes) -> None:
        """Write the response to the current request and continue with the next one."""
        self._exchange = None
        server = self.server
        phase = self.phase
        if self.last or server.draining or phase is _BODY:
            self.last = True
            self._write(head + CLOSE_LINE + server.date_line + body)
            if phase is _ANSWER or phase is _BODY:
                self._linger()
            return
        if self._old:
            head += KEEP_ALIVE_LINE
        self._write(head + server.date_line + body)
        if phase is _ANSWER:
            self.phase, self.since = _IDLE, server.now
            if self._kept:
                self._advance()

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        try:
            self._transport.write(data)
        except RuntimeError:  # uvloop: the connection is lost but not yet reported
            self.last = True

    def _refuse(self, refusal: RequestRejected) -> None:
        """Send a rejection and close the connection.

        The following data cannot be distinguished from the rejected request.
        """
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.forget()
        fields, body = self.server.refused(refusal)
        self._write(
            response_head(refusal.status, fields, len(body))
            + CLOSE_LINE
            + self.server.date_line
            + body
        )
        self._linger()

    def _linger(self) -> None:
        """Close so that the client can read the response.

        Closing with unread bytes would reset the connection.
        """
        self._drop_input()
        self.phase, self.since = _LINGER, self.server.now
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except OSError:
            # asyncio: the client has reset the connection, and the loop has not reported it yet.
            self._transport.abort()
            return
        self._resume_reading()

    # Called by the server.

    def sweep(self, now: float) -> None:
        """Enforce the deadline of the current phase."""
        elapsed = now - self.since
        limits = self.server.limits
        phase = self.phase
        if self._written and self._is_stalled(now):
            self.server.count(ConnectionEvent.STALLED)
            self.abort()
            return
        if phase is _HEAD and elapsed > limits.head_seconds:
            if self._unfinished:
                self._refuse(
                    RequestRejected(
                        408, f"the headers did not arrive within {limits.head_seconds:g} s"
                    )
                )
            else:
                self._close_idle()
        elif phase is _BODY:
            self._sweep_body(elapsed)
        elif phase is _ANSWER and elapsed > limits.answer_seconds:
            self._refuse(
                RequestRejected(503, f"there was no answer within {limits.answer_seconds:g} s")
            )
        elif phase is _IDLE and elapsed > limits.idle_seconds:
            self._close_idle()
        elif phase is _LINGER and elapsed > limits.linger_seconds:
            self._transport.abort()

    def _is_stalled(self, now: float) -> bool:
        """Whether data is waiting and the client has read none of it within the deadline."""
        try:
            waiting = self._transport.get_write_buffer_size()
        except RuntimeError:  # uvloop: the connection is lost but not yet reported
            return False
        read = self._written - waiting
        if not waiting or read != self._read_by_client:
            self._read_by_client, self._progress_at = read, now
            return False
        return now - self._progress_at > self.server.limits.write_seconds

    def _close_idle(self) -> None:
        """Close an idle connection.

        If it does not end because the client reads nothing, the sweep aborts it.
        """
        self.server.count(ConnectionEvent.IDLE)
        self._drop_input()
        self.phase, self.since = _LINGER, self.server.now
        self._transport.close()

    def idle_rank(self, now: float) -> int | None:
        """Return the eviction order of this connection, lowest first.

        Returns None if a request is in progress or the connection is new.
        """
        rank = _IDLE_RANKS.get(self.phase)
        if rank and not self._writing_paused and now - self.since < _SPARED_SECONDS:
            return None
        return rank

    def _sweep_body(self, elapsed: float) -> None:
        limits, received = self.server.limits, self._body.received if self._body else 0
        late = elapsed > limits.body_seconds
        slow = (
            elapsed > limits.body_grace_seconds
            and received < elapsed * limits.body_bytes_per_second_min
        )
        if late or slow:
            self._refuse(
                RequestRejected(
                    408,
                    f"the body is slower than {limits.body_bytes_per_second_min} bytes/s or"
                    f" {limits.body_seconds:g} s",
                )
            )

    def shutdown(self) -> None:
        """Close now if idle, otherwise after the current response."""
        self.last = True
        if self.phase is _IDLE or (self.phase is _HEAD and not self._unfinished):
            self._transport.close()

    def abort(self) -> None:
        """Abort the connection and discard its input."""
        if self.phase is not _CLOSED:
            self.phase = _CLOSED
            self._drop_input()
            if self._exchange is not None:
                self._exchange.forget()
                self._exchange = None
        self._transport.abort()


def _server_full() -> RequestRejected:
    return RequestRejected(
        503, "too many bytes of unfinished requests are waiting for their ends; send it again later"
    )
