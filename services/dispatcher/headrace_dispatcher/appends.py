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
REFUSED_SECONDS = 30.0

Refused = Callable[[str, HeadraceError], bool]
"""Told of a permanent refusal (topic, why); True to go on trying, False when the caller has taken
the record back.
"""


def _always() -> bool:
    return True


class Appends:
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
        stored: Callable[[], None],
        refused: Refused,
        needed: Callable[[], bool] = _always,
    ) -> None:
        """Store `record`, then call `stored`. `needed` is asked before it is tried again; after a
        False nothing more is told.
        """
        self._try(topic, record, stored, refused, needed, SECONDS_MIN)

    def _try(
        self,
        topic: str,
        record: Record,
        stored: Callable[[], None],
        refused: Refused,
        needed: Callable[[], bool],
        seconds: float,
    ) -> None:
        def answered(error: HeadraceError | None) -> None:
            if error is None:
                stored()
            else:
                self._failed(topic, record, stored, refused, needed, seconds, error)

        try:
            self._log.append(topic, record, answered)
        except HeadraceError as error:
            self._failed(topic, record, stored, refused, needed, seconds, error)

    def _failed(
        self,
        topic: str,
        record: Record,
        stored: Callable[[], None],
        refused: Refused,
        needed: Callable[[], bool],
        seconds: float,
        error: HeadraceError,
    ) -> None:
        wait = seconds
        if isinstance(error, Permanent):
            if not refused(topic, error):
                return
            wait = REFUSED_SECONDS
        following = min(seconds * 2, SECONDS_MAX)

        def again() -> None:
            self._timers.discard(timer)
            if needed():
                self._try(topic, record, stored, refused, needed, following)

        timer = asyncio.get_running_loop().call_later(wait, again)
        self._timers.add(timer)

    def close(self) -> None:
        """Give up what is waiting to be tried again; the records stay not done and come back with
        the next start.
        """
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
