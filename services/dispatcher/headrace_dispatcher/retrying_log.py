"""Appends that do not give up: the record that takes an event's place, in a retry, delay, dead
letter or reply topic.

Nothing is done until its successor is stored. So an append is tried for as long as it takes: a log
that does not answer is asked again, and a refusal that will not pass by itself stops the lane,
raises the alarm and is tried again for when somebody has mended it.
"""

import asyncio
from collections.abc import Callable

from headrace.domain.errors import HeadraceError, Permanent
from headrace.domain.ports import Log
from headrace.domain.record import Record

SECONDS_MIN = 0.1
SECONDS_MAX = 5.0
PERMANENT_ERROR_SECONDS = 30.0

OnPermanentError = Callable[[str, HeadraceError], bool]
"""Told of a permanent refusal (topic, why); True to go on trying, False when the caller has taken
the record back.
"""


def _always_needed() -> bool:
    return True


class RetryingLog:
    """Appends on behalf of deliveries. Bounded by what the lanes hold: at most one append per
    delivery in hand.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def waiting(self) -> int:
        """Appends that are to be tried again."""
        return len(self._timers)

    def store(
        self,
        topic: str,
        record: Record,
        on_stored: Callable[[], None],
        on_permanent_error: OnPermanentError,
        still_needed: Callable[[], bool] = _always_needed,
    ) -> None:
        """Store `record`, then call `on_stored`. `still_needed` is asked before it is tried again;
        after a False nothing more is told.
        """
        self._try(topic, record, on_stored, on_permanent_error, still_needed, SECONDS_MIN)

    def _try(
        self,
        topic: str,
        record: Record,
        on_stored: Callable[[], None],
        on_permanent_error: OnPermanentError,
        still_needed: Callable[[], bool],
        seconds: float,
    ) -> None:
        def on_appended(error: HeadraceError | None) -> None:
            if error is None:
                on_stored()
            else:
                self._retry_later(
                    topic, record, on_stored, on_permanent_error, still_needed, seconds, error
                )

        try:
            self._log.append(topic, record, on_appended)
        except HeadraceError as error:
            self._retry_later(
                topic, record, on_stored, on_permanent_error, still_needed, seconds, error
            )

    def _retry_later(
        self,
        topic: str,
        record: Record,
        on_stored: Callable[[], None],
        on_permanent_error: OnPermanentError,
        still_needed: Callable[[], bool],
        seconds: float,
        error: HeadraceError,
    ) -> None:
        wait = seconds
        if isinstance(error, Permanent):
            if not on_permanent_error(topic, error):
                return
            wait = PERMANENT_ERROR_SECONDS
        following = min(seconds * 2, SECONDS_MAX)

        def retry() -> None:
            self._timers.discard(timer)
            if still_needed():
                self._try(topic, record, on_stored, on_permanent_error, still_needed, following)

        timer = asyncio.get_running_loop().call_later(wait, retry)
        self._timers.add(timer)

    def close(self) -> None:
        """Give up what is waiting to be tried again; the records stay not done and come back with
        the next start.
        """
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
