"""Appends that are retried until they succeed: the record that takes an event's place, in a retry,
delay, dead letter or reply topic.

An event is done only once its successor is stored. A log that does not answer is tried again with a
growing wait; a permanent refusal is tried again every 30 s, until an operator has removed its cause
or the caller stops it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError, Permanent
from headrace.domain.ports import Log
from headrace.domain.record import Record

BACKOFF: Final = Backoff((0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0))
PERMANENT_ERROR_SECONDS = 30.0

OnResult = Callable[[HeadraceError | None], bool]
"""Called after each try: with None when the record is stored, which ends it; with the error when it
is not. Return True to try again.
"""


class PendingAppend:
    """One record until it is stored or given up."""

    __slots__ = ("_failures", "_log", "_on_result", "_timer", "record", "topic")

    def __init__(self, log: "RetryingLog", topic: str, record: Record, on_result: OnResult) -> None:
        self.topic = topic
        self.record = record
        self._log = log
        self._on_result = on_result
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<PendingAppend to {self.topic}{' waiting' if self._timer else ''}>"

    def cancel(self) -> bool:
        """Give the append up if it waits for its next try. False if it does not wait: its result is
        still reported.
        """
        if self._timer is None:
            return False
        self._timer.cancel()
        self._timer = None
        self._log.pending.discard(self)
        return True

    def attempt(self) -> None:
        """Append the record; for `RetryingLog` only."""
        self._timer = None
        self._log.pending.discard(self)
        try:
            self._log.log.append(self.topic, self.record, self._appended)
        except HeadraceError as error:
            self._appended(error)

    def _appended(self, error: HeadraceError | None) -> None:
        if not self._on_result(error) or error is None:
            return
        self._failures += 1
        wait = (
            PERMANENT_ERROR_SECONDS
            if isinstance(error, Permanent)
            else BACKOFF.seconds(self._failures)
        )
        self._timer = asyncio.get_running_loop().call_later(wait, self.attempt)
        self._log.pending.add(self)


class RetryingLog:
    """Appends on behalf of deliveries. Bounded by what the lanes hold: at most one append per
    delivery.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.pending: set[PendingAppend] = set()
        """Appends that wait for their next try."""

    @property
    def waiting(self) -> int:
        """How many appends wait for their next try."""
        return len(self.pending)

    def store(self, topic: str, record: Record, on_result: OnResult) -> PendingAppend:
        """Store `record`. `on_result` may be called before this returns, when the log refuses the
        record at once.
        """
        pending = PendingAppend(self, topic, record, on_result)
        pending.attempt()
        return pending

    def close(self) -> None:
        """Give up what waits for its next try; the records stay not done and are handed out again
        after the next start.
        """
        for pending in list(self.pending):
            pending.cancel()
