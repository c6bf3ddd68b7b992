"""One connection to a subscriber: writes a request, reads its response, and reports to its pool
whether it can be used again.

All of it runs in the transport's callbacks. An attempt is answered only after the parser has seen
all the bytes that came, so a peer that sends more than one response for a request is found out
before the connection carries the next event.
"""

import asyncio
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from headrace.adapters.http.client_attempt import HttpAttempt
from headrace.adapters.http.client_body_budget import (
    BYTES_PER_SECOND_MIN,
    BodyBudget,
    BodyReservation,
    BudgetWaiter,
)
from headrace.adapters.http.client_options import ClientOptions
from headrace.codec.http import may_be_reply
from headrace.domain.delivery import Failure, Outcome

_BODY_SENT_AT_ONCE = 65_536
"""A body that socket buffers take in one write."""
_OVER_BUDGET = (
    "too many large replies are being read; this one is read when the event is delivered again"
)


class ConnectionOwner(Protocol):
    """Whom a connection belongs to. Exactly one of the first two ends each attempt."""

    def answered(
        self, connection: "ClientConnection", attempt: HttpAttempt, outcome: Outcome, reusable: bool
    ) -> None:
        """It has its outcome; when not `reusable`, the connection is closing already."""
        ...

    def broken(
        self,
        connection: "ClientConnection",
        attempt: HttpAttempt,
        outcome: Outcome,
        *,
        untouched: bool,
    ) -> None:
        """The connection was lost; `untouched` when not a byte of a response had come."""
        ...

    def unusable(self, connection: "ClientConnection") -> None:
        """The connection ended, or is about to; may be reported more than once."""
        ...

    def reply_bytes_max(self) -> int:
        """How many bytes a response may have that is a reply event."""
        ...

    def on_surplus(self) -> None:
        """The peer sent what nobody had asked for."""
        ...


class _StopParsing(Exception):
    """Raised in a parser callback to stop the parser; what is wanted was read, or a bound is
    passed.
    """


class ClientConnection(asyncio.Protocol):
    """A connection that carries one attempt at a time."""

    __slots__ = (
        "_body",
        "_body_budget",
        "_body_max",
        "_complete",
        "_fault",
        "_fields_max",
        "_head_done",
        "_headers",
        "_keep_alive",
        "_options",
        "_owner",
        "_parser",
        "_received",
        "_reservation",
        "_status",
        "_to_end",
        "_transport",
        "_truncated",
        "_waiting",
        "attempt",
        "ended",
        "expires_at",
        "fresh_until",
        "uses",
    )

    def __init__(
        self, pool: ConnectionOwner, options: ClientOptions, body_budget: BodyBudget
    ) -> None:
        self._owner = pool
        self._body_budget = body_budget
        self._reservation: BodyReservation | None = None
        self._waiting: BudgetWaiter | None = None
        self._options = options
        self._fields_max = options.head_fields_max
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        self.attempt: HttpAttempt | None = None
        self.expires_at = 0.0
        """When it is too old for another request (loop time)."""
        self.fresh_until = 0.0
        """When it has been idle for too long, or is too old."""
        self.uses = 0
        """Requests written so far."""
        self.ended = False
        """The peer has ended it, or it was closed here: no request may be written."""
        self._status = 0
        self._keep_alive = False
        self._to_end = False
        self._truncated = False
        self._fault = ""
        self._expect_response()

    def _expect_response(self) -> None:
        # What else is kept about a response is either overwritten with the next one, or ends the
        # connection.
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""
        self._body_max = self._options.body_bytes_max
        self._received = 0
        self._head_done = False
        self._complete = False

    @property
    def progress(self) -> str:
        """How far the response has come, for the message of a deadline."""
        if self._head_done:
            return f"only {len(self._body)} bytes of the response body came"
        return "only a part of the response head came" if self._received else "no response came"

    @property
    def body_bytes(self) -> int:
        """How much of the response body has come; `client_body_budget.BodyReader`."""
        return len(self._body)

    def fail_slow(self) -> None:
        """The body is too slow while others wait for its room; `client_body_budget.BodyReader`."""
        if self.attempt is not None:
            detail = (
                f"{self.progress}, slower than {BYTES_PER_SECOND_MIN} bytes/s while other large"
                " replies waited for memory"
            )
            self._fail(self.attempt, detail, Failure.TIMEOUT)

    def refuse_wait(self) -> None:
        """Others wait for room, and this target has the most of them;
        `client_body_budget.BodyReader`.
        """
        if self.attempt is not None:
            self._fail(self.attempt, _OVER_BUDGET)

    def send(self, attempt: HttpAttempt) -> None:
        """Write a request; its end is reported to the pool."""
        self.attempt = attempt
        self.uses += 1
        self._expect_response()
        if len(attempt.body) <= _BODY_SENT_AT_ONCE:
            self._transport.write(attempt.head + attempt.body)
        else:
            # Not joined: a subscriber that does not read would keep a copy of every large body in
            # memory.
            self._transport.writelines((attempt.head, attempt.body))

    def close(self) -> None:
        """End it while nothing is on it."""
        self.ended = True
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection and what is on it; the attempt is not reported to the pool."""
        self.attempt = None
        self.ended = True
        self._release_reservation()
        self._transport.abort()

    def drop(self) -> None:
        """Drop the connection and what is on it; the pool is notified that nobody may pick it."""
        self._owner.unusable(self)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # create_connection gives stream transports only

    def eof_received(self) -> None:
        """The peer will send no more: the transport closes itself when this returns, and no request
        may be written before it has.
        """
        self.ended = True
        if self.attempt is None:
            self._owner.unusable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the pool, with an outcome if an attempt was under way."""
        self.ended = True
        attempt, self.attempt = self.attempt, None
        if attempt is None:
            self._owner.unusable(self)
        elif self._to_end and exc is None:
            self._owner.answered(self, attempt, self._outcome(), False)
        else:
            cause = getattr(exc, "strerror", None) or "closed by the peer"
            outcome = Outcome(failure=Failure.RESET, detail=f"{cause}; {self.progress}")
            self._owner.broken(self, attempt, outcome, untouched=self._received == 0)
        self._release_reservation()
        # The parser holds this object's methods: without this, only the garbage collector would
        # free the two.
        del self._parser

    def data_received(self, data: bytes) -> None:
        """Take what came; when it completes the response, or breaks a rule, end the attempt."""
        attempt = self.attempt
        if attempt is None:
            self._drop_surplus()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._complete, self._keep_alive = True, False
        except HttpParserError as error:
            if not self._complete:
                self._fail(attempt, self._fault or f"not an HTTP/1.1 response: {error}")
                return
            self._keep_alive = False
        if self._complete:
            self._finish(attempt)
        elif self._received > self._options.head_bytes_max:
            self._check_length(attempt)

    def _check_length(self, attempt: HttpAttempt) -> None:
        """End a response whose bytes are more than its parts may have. All of them count: the
        deadline alone would let a peer send at full speed for as long as it lasts, on the loop that
        everybody shares.
        """
        options = self._options
        if not self._head_done:
            self._fail(attempt, f"the response head is longer than {options.head_bytes_max} bytes")
        elif self._received > options.head_bytes_max + options.framing_bytes_max + 2 * len(
            self._body
        ):
            self._fail(
                attempt,
                "the chunk framing and trailers of the response are longer than"
                f" {options.framing_bytes_max} bytes and its body",
            )

    def _drop_surplus(self) -> None:
        self._owner.on_surplus()
        self.drop()

    def _finish(self, attempt: HttpAttempt) -> None:
        self.attempt = None
        outcome = self._outcome()
        reusable = self._keep_alive and not self.ended
        if reusable and len(attempt.body) > _BODY_SENT_AT_ONCE:
            # A response that overtook its request leaves the rest of it in the buffer, where the
            # peer may never read it.
            reusable = not self._transport.get_write_buffer_size()
        if not reusable:
            self.abort()
        self._owner.answered(self, attempt, outcome, reusable)

    def _fail(self, attempt: HttpAttempt, detail: str, failure: Failure = Failure.PROTOCOL) -> None:
        self.abort()
        self._owner.answered(self, attempt, Outcome(failure=failure, detail=detail), False)

    def _outcome(self) -> Outcome:
        if self._reservation is None and self._waiting is None:  # Nearly always: the body is small.
            return Outcome(self._status, self._headers, bytes(self._body), self._truncated)
        lease = self._end_reservation()
        if self._waiting is not None:  # The rest came with the read that began the wait.
            self._release_reservation()
            if not self.ended:
                self._transport.resume_reading()
            lease = self._body_budget.reserve_unchecked(len(self._body))
        return Outcome(self._status, self._headers, bytes(self._body), self._truncated, lease=lease)

    def _release_reservation(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._end_reservation()

    def _end_reservation(self) -> BodyReservation | None:
        """Hand on the room of a body that is no longer read."""
        lease, self._reservation = self._reservation, None
        if lease is not None:
            self._body_budget.end_reading(self)
        return lease

    # What follows is called by the parser, in this order.

    def on_message_begin(self) -> None:
        """A response begins; a second one in the same bytes answers no request."""
        if self._complete:
            self._owner.on_surplus()
            self._keep_alive = False
            raise _StopParsing

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field; trailers, which come after the head, are dropped."""
        if self._head_done:
            return
        if len(self._headers) >= self._fields_max:
            self._fault = (
                f"the response has more than {self._options.head_fields_max} header fields"
            )
            raise _StopParsing
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note status and framing. Interim responses (RFC 9110, 15.2) are skipped, and count
        towards the size of the head.
        """
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._headers = []
            return
        self._status = status
        if (
            self._received > self._options.head_bytes_max
            and self._head_size() > self._options.head_bytes_max
        ):
            self._fault = f"the response head is longer than {self._options.head_bytes_max} bytes"
            raise _StopParsing
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()
        if not self._keep_alive:
            self._to_end = not any(
                name in (b"content-length", b"transfer-encoding") for name, _ in self._headers
            )

    def _head_size(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self._headers)

    def on_body(self, body: bytes) -> None:
        """Collect the body up to its bound, where the response counts as complete."""
        if len(self._body) + len(body) > self._body_max == self._options.body_bytes_max:
            self._reserve_body()
        body_budget = self._body_max - len(self._body)
        if len(body) > body_budget:
            body = body[:body_budget]
            self._truncated = self._complete = True
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if self._truncated:
            raise _StopParsing

    def _reserve_body(self) -> None:
        """Let a large reply event continue, as far as its destination takes it, when there is
        memory for it; leave others as they are.
        """
        if not may_be_reply(self._status, self._headers):
            return
        limit = self._owner.reply_bytes_max()
        length = next(
            (int(value) for name, value in self._headers if name == b"content-length"), limit
        )
        if limit <= self._body_max or length > limit:
            return
        self._body_max = limit
        self._reservation = self._body_budget.take(length, self)
        if self._reservation is None:
            self._waiting = self._body_budget.wait(length, self, self._owner, self._on_reserved)
            if self._waiting is None:
                self._fault = _OVER_BUDGET
                raise _StopParsing
            self._transport.pause_reading()

    def _on_reserved(self, lease: BodyReservation) -> None:
        self._waiting, self._reservation = None, lease
        self._transport.resume_reading()

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self._head_done:
            self._complete = True
