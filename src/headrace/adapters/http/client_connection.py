"""A connection to a subscriber. It writes a request, reads the response, and reports to its pool
whether the connection can be reused.

A subscriber that accepts events gives the same answer again and again: its bytes change once a
second, with the field `date`. An answer that equals the last one of the target is not parsed again.

Everything runs in transport callbacks. The outcome of an attempt is reported only after the parser
has processed all received bytes. A peer that sends more than one response to a request is therefore
detected before the connection carries the next event.
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
"""Maximum size of a body that is written together with its head; socket buffers can hold it."""
_REMEMBERED_BYTES_MAX = 1_024
_OVER_BUDGET = (
    "too many large replies are being read; this one is read when the event is delivered again"
)


class ConnectionOwner(Protocol):
    """The pool that a connection belongs to. Each attempt ends with exactly one call of `answered`
    or `broken`.
    """

    last_response: bytes
    """A complete small response after which its connection was reused; empty before there was one.
    Connections read and replace it.
    """
    last_outcome: Outcome
    """What it means."""

    def answered(
        self, connection: "ClientConnection", attempt: HttpAttempt, outcome: Outcome, reusable: bool
    ) -> None:
        """Handle the outcome of an attempt. If not `reusable`, the connection is closing."""
        ...

    def broken(
        self,
        connection: "ClientConnection",
        attempt: HttpAttempt,
        outcome: Outcome,
        *,
        untouched: bool,
    ) -> None:
        """Handle a lost connection. `untouched` is true if no byte of a response was received."""
        ...

    def unusable(self, connection: "ClientConnection") -> None:
        """Remove a connection that is closed or closing. May be called more than once."""
        ...

    def reply_bytes_max(self) -> int:
        """Return the maximum size in bytes of a response that is a reply event."""
        ...

    def on_surplus(self) -> None:
        """Count bytes from the peer that belong to no request."""
        ...


class _StopParsing(Exception):
    """Raised in a parser callback to stop the parser, because the response was read or exceeds a
    limit.
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
        """When the connection becomes too old for another request, in event loop time."""
        self.fresh_until = 0.0
        """When the connection has been idle for too long or is too old, in event loop time."""
        self.uses = 0
        """Number of requests written so far."""
        self.ended = False
        """Whether either side has closed the connection. No request may be written after that."""
        self._status = 0
        self._keep_alive = False
        self._to_end = False
        self._truncated = False
        self._fault = ""
        self._expect_response()

    def _expect_response(self) -> None:
        # The other attributes of a response are overwritten by the next response, or end the
        # connection once they are set.
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""
        self._body_max = self._options.body_bytes_max
        self._received = 0
        self._head_done = False
        self._complete = False

    @property
    def progress(self) -> str:
        """How much of the response has arrived, for the message of a timeout."""
        if self._head_done:
            return f"only {len(self._body)} bytes of the response body came"
        return "only a part of the response head came" if self._received else "no response came"

    @property
    def body_bytes(self) -> int:
        """Number of bytes of the response body received; see `client_body_budget.BodyReader`."""
        return len(self._body)

    def fail_slow(self) -> None:
        """Fail the response because its body is too slow while others wait for memory; see
        `client_body_budget.BodyReader`.
        """
        if self.attempt is not None:
            detail = (
                f"{self.progress}, slower than {BYTES_PER_SECOND_MIN} bytes/s while other large"
                " replies waited for memory"
            )
            self._fail(self.attempt, detail, Failure.TIMEOUT)

    def refuse_wait(self) -> None:
        """Fail the response because too many bodies wait and this target has most of them; see
        `client_body_budget.BodyReader`.
        """
        if self.attempt is not None:
            self._fail(self.attempt, _OVER_BUDGET)

    def send(self, attempt: HttpAttempt) -> None:
        """Write a request. Its outcome is reported to the pool."""
        self.attempt = attempt
        self.uses += 1
        if self._received:
            self._expect_response()
        if len(attempt.body) <= _BODY_SENT_AT_ONCE:
            self._transport.write(attempt.head + attempt.body)
        else:
            # Head and body are not joined: for a subscriber that does not read, a copy of every
            # large body would stay in memory.
            self._transport.writelines((attempt.head, attempt.body))

    def close(self) -> None:
        """Close an idle connection."""
        self.ended = True
        self._transport.close()

    def abort(self) -> None:
        """Abort the connection and its attempt. The pool is not notified."""
        self.attempt = None
        self.ended = True
        self._release_reservation()
        self._transport.abort()

    def drop(self) -> None:
        """Abort the connection and its attempt, and notify the pool that it cannot be used."""
        self._owner.unusable(self)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = transport  # type: ignore[assignment]  # create_connection gives stream transports only

    def eof_received(self) -> None:
        """Mark the connection as ended, because the peer sends no more data. The transport closes
        after this returns, and no request may be written in the meantime.
        """
        self.ended = True
        if self.attempt is None:
            self._owner.unusable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the pool, with an outcome if an attempt was in progress."""
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
        # The parser refers to methods of this object. Without this, only the garbage collector
        # would free the reference cycle.
        del self._parser

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. End the attempt when the response is complete, invalid or exceeds a
        limit.
        """
        attempt = self.attempt
        if attempt is None:
            self._drop_surplus()
            return
        owner = self._owner
        if (
            not self._received
            and data == owner.last_response
            and not self.ended
            and len(attempt.body) <= _BODY_SENT_AT_ONCE
        ):
            # The parser is between two messages, where the same bytes mean the same.
            self.attempt = None
            owner.answered(self, attempt, owner.last_outcome, True)
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
            self._finish(attempt, data)
        elif self._received > self._options.head_bytes_max:
            self._check_length(attempt)

    def _check_length(self, attempt: HttpAttempt) -> None:
        """Fail a response whose total size exceeds the limits of its parts.

        Chunk framing and trailers count too. With the deadline as the only limit, a peer could send
        at full speed until the deadline and occupy the event loop that all targets share.
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

    def _finish(self, attempt: HttpAttempt, data: bytes) -> None:
        self.attempt = None
        outcome = self._outcome()
        reusable = self._keep_alive and not self.ended
        if reusable and len(attempt.body) > _BODY_SENT_AT_ONCE:
            # If the response arrived before the whole request was sent, the rest of the request is
            # still in the write buffer, and the peer may never read it.
            reusable = not self._transport.get_write_buffer_size()
        owner = self._owner
        if not reusable:
            self.abort()
        elif len(data) == self._received <= _REMEMBERED_BYTES_MAX:
            owner.last_response, owner.last_outcome = data, outcome
        owner.answered(self, attempt, outcome, reusable)

    def _fail(self, attempt: HttpAttempt, detail: str, failure: Failure = Failure.PROTOCOL) -> None:
        self.abort()
        self._owner.answered(self, attempt, Outcome(failure=failure, detail=detail), False)

    def _outcome(self) -> Outcome:
        if self._reservation is None and self._waiting is None:  # The usual case: a small body.
            return Outcome(self._status, self._headers, bytes(self._body), self._truncated)
        lease = self._end_reservation()
        if self._waiting is not None:  # The same read completed the body.
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
        """Stop reading the body and return its reservation, which the caller keeps or drops."""
        lease, self._reservation = self._reservation, None
        if lease is not None:
            self._body_budget.end_reading(self)
        return lease

    # The parser calls the following methods, in this order.

    def on_message_begin(self) -> None:
        """Stop the parser at a second response in the same bytes, which belongs to no request."""
        if self._complete:
            self._owner.on_surplus()
            self._keep_alive = False
            raise _StopParsing

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header field. Trailers, which follow the body, are ignored."""
        if self._head_done:
            return
        if len(self._headers) >= self._fields_max:
            self._fault = (
                f"the response has more than {self._options.head_fields_max} header fields"
            )
            raise _StopParsing
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Store the status and framing. Interim responses (RFC 9110, 15.2) are skipped but count
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
        """Collect the body up to its size limit. A response that exceeds it is cut and complete."""
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
        """Raise the size limit of a large reply event to the maximum of its destination, and
        reserve the memory or wait for it. Other responses keep the small limit.
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
        """Mark the response as complete. Does nothing after an interim response."""
        if self._head_done:
            self._complete = True
