"""A request on its way: known to its target, its connection and the deadlines at once, and over
exactly once.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from headrace.adapters.http.client_deadlines import Deadlines, Expirable
from headrace.domain.delivery import Outcome

OnOutcome = Callable[[Outcome], None]


class AttemptOwner(Protocol):
    """The target an attempt belongs to."""

    def abandon(self, attempt: "HttpAttempt") -> None:
        """The caller no longer wants the outcome."""
        ...

    def expire(self, attempt: "HttpAttempt") -> None:
        """The attempt's deadline has passed."""
        ...


class AttemptConnection(Protocol):
    """The connection that carries an attempt."""

    @property
    def progress(self) -> str:
        """How far the response has come, for the message of a deadline."""
        ...

    def drop(self) -> None:
        """Cut the connection without reporting the attempt."""
        ...


class HttpAttempt:
    """`headrace.domain.ports.Attempt`."""

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
        # Positional, against the habit of this code base: keywords cost as much as all the rest of
        # this.
        self.head = head
        self.body = body
        self.timeout_seconds = timeout_seconds
        self.connection: AttemptConnection | None = None
        self.sent_at = now
        """When it was written to its connection (loop time)."""
        self.repeated = False
        """Sent a second time, after the connection of the first was found closed."""
        self._owner = owner
        self._on_outcome: OnOutcome | None = answered
        self._queue: dict[Expirable, float] = deadlines.add(self, timeout_seconds, now)

    def cancel(self) -> None:
        """Cancel it; its outcome is not reported."""
        if self._on_outcome is not None:
            self._owner.abandon(self)

    def expire(self) -> None:
        """The deadline has passed."""
        self._owner.expire(self)

    def end(self) -> OnOutcome | None:
        """Release everything; return the callback, or None when it was over before."""
        self._queue.pop(self, None)
        answered, self._on_outcome, self.connection = self._on_outcome, None, None
        self.head = self.body = b""
        return answered

    def complete(self, outcome: Outcome) -> None:
        """End it and report its outcome, unless it was over before."""
        answered = self.end()
        if answered is None:
            return
        try:
            answered(outcome)
        except Exception as error:
            # In a transport's callback it would close the connection, which may carry the next
            # event already.
            context = {"message": "the receiver of an outcome failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
