"""A request in flight. Its target, its connection and the deadline queue all refer to it, and it
ends exactly once.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from headrace.adapters.http.client_deadlines import Deadlines, Expirable
from headrace.domain.delivery import Outcome

OnOutcome = Callable[[Outcome], None]


class AttemptOwner(Protocol):
    """The target that an attempt belongs to."""

    def abandon(self, attempt: "HttpAttempt") -> None:
        """Handle an attempt whose caller no longer wants the outcome."""
        ...

    def expire(self, attempt: "HttpAttempt") -> None:
        """Handle an attempt whose deadline has passed."""
        ...


class AttemptConnection(Protocol):
    """The connection that carries an attempt."""

    @property
    def progress(self) -> str:
        """How much of the response has arrived, for the message of a timeout."""
        ...

    def drop(self) -> None:
        """Abort the connection without reporting the outcome of the attempt."""
        ...


class HttpAttempt:
    """One attempt to post an event; implements `headrace.domain.ports.Attempt`."""

    __slots__ = (
        "_on_outcome",
        "_owner",
        "_queue",
        "body",
        "connection",
        "head",
        "repeated",
        "sent_at",
        "timeout_seconds",
    )

    def __init__(
        self,
        owner: AttemptOwner,
        head: bytes,
        body: bytes,
        timeout_seconds: float,
        answered: OnOutcome,
        deadlines: Deadlines,
        now: float,
    ) -> None:
        # Positional parameters, unlike elsewhere in this code base: passing keywords takes as long
        # as the rest of this constructor.
        self.head = head
        self.body = body
        self.timeout_seconds = timeout_seconds
        self.connection: AttemptConnection | None = None
        self.sent_at = now
        """When the request was written to its connection, in event loop time."""
        self.repeated = False
        """Whether the request was sent a second time because the first connection was closed."""
        self._owner = owner
        self._on_outcome: OnOutcome | None = answered
        self._queue: dict[Expirable, float] = deadlines.add(self, timeout_seconds, now)

    def cancel(self) -> None:
        """Cancel the attempt. Its outcome is not reported."""
        if self._on_outcome is not None:
            self._owner.abandon(self)

    def expire(self) -> None:
        """Report the passed deadline to the target."""
        self._owner.expire(self)

    def end(self) -> OnOutcome | None:
        """Release everything and return the callback, or None if the attempt has already ended."""
        self._queue.pop(self, None)
        answered, self._on_outcome, self.connection = self._on_outcome, None, None
        self.head = self.body = b""
        return answered

    def complete(self, outcome: Outcome) -> None:
        """End the attempt and report its outcome. Does nothing if it has already ended."""
        answered = self.end()
        if answered is None:
            return
        try:
            answered(outcome)
        except Exception as error:
            # An exception raised in a transport callback closes the connection, which may already
            # carry the next event.
            context = {"message": "the receiver of an outcome failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
