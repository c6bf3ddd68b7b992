"""PingSource: an event with the same data at each time of a schedule.

One process fires. The cursor is the time up to which all is fired, saved after the events were
delivered; the id of an event is derived from the source and the time. So a process that takes over
fires the times that are due since then, by the policy for missed times, and an event that was
delivered right before a crash comes a second time with the same id. The cursor has the schedule
too: times of another schedule, before the spec was changed, were not missed.
"""

import asyncio
import json
from base64 import b64decode
from enum import StrEnum
from math import inf
from typing import ClassVar, Final
from uuid import NAMESPACE_URL, uuid5

import structlog

from headrace.domain.attributes import check
from headrace.domain.errors import HeadraceError
from headrace.domain.event import Event, InvalidEvent
from headrace_sources.adapters.due_time import sleep_towards
from headrace_sources.adapters.schedule import Schedule
from headrace_sources.source import (
    Emit,
    NotDelivered,
    SourceConfig,
    SourceContext,
    SourceFault,
    event_time,
    new_event,
)

logger = structlog.get_logger(__name__)

MISSED_MAX: Final = 100
"""Missed times that are fired at most, the newest ones."""
LATE_SECONDS: Final = 10.0
"""A time that is due for no longer was not missed: the process was busy, or is the next one."""
FIRING_MAX: Final = 16
"""Events on their way at a time."""
CLOCK_SKEW_SECONDS: Final = 300.0
"""How far the clock of the process before may have been ahead of this one's. A cursor that is later
was saved with a wrong clock.
"""


class MissedRuns(StrEnum):
    """What happens to times at which no process could fire."""

    SKIP = "skip"
    ONCE = "once"
    """The newest of them is fired."""
    ALL = "all"


class PingConfig(SourceConfig):
    """What is sent, and when."""

    type: str
    source: str
    schedule: str = "* * * * *"
    timezone: str = ""
    content_type: str = ""
    data: str = ""
    data_base64: str = ""
    missed_runs: MissedRuns = MissedRuns.SKIP


class PingSource:
    """The adapter."""

    Config: ClassVar[type[SourceConfig]] = PingConfig

    def __init__(self, config: PingConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._schedule = Schedule(config.schedule, config.timezone)
        self._slots = asyncio.Semaphore(FIRING_MAX)
        self._open: set[float] = set()
        """Times whose events are on their way."""
        self._done: set[float] = set()
        """Delivered times that a time in `_open` comes before."""
        try:
            self._data = (
                b64decode(config.data_base64, validate=True)
                if config.data_base64
                else config.data.encode()
            )
        except ValueError:
            raise SourceFault(
                "InvalidData", "spec.dataBase64 is not base64; text goes into spec.data"
            ) from None
        try:
            check(self._event(0.0).attributes)
        except InvalidEvent as error:
            raise SourceFault("InvalidData", f"change spec.contentType: {error}") from None

    async def run(self, emit: Emit) -> None:
        """Fire until cancelled."""
        last = self._first_cursor()
        if self._cursor_at(last) != self._context.cursor:
            # A process that takes over before the first firing has to know what it missed.
            await self._save(last)
        async with asyncio.TaskGroup() as firing:
            while True:
                for due in self._due_since(last):
                    await self._slots.acquire()
                    self._open.add(due)
                    firing.create_task(self._fire(emit, due))
                    last = due
                last = max(last, self._context.clock.now() - LATE_SECONDS)
                await sleep_towards(self._context.clock, self._schedule.after(last))

    def _first_cursor(self) -> float:
        """The time up to which all is fired; now, for a source that is new or has another schedule
        than before.
        """
        now = self._context.clock.now()
        try:
            saved = json.loads(self._context.cursor or "{}")
            time, schedule = float(saved["time"]), saved["schedule"]
        except (ValueError, TypeError, KeyError):
            return now
        if schedule != str(self._schedule) or time > now + CLOCK_SKEW_SECONDS:
            return now
        return time

    def _cursor_at(self, time: float) -> str:
        return json.dumps({"time": time, "schedule": str(self._schedule)})

    async def _save(self, time: float) -> None:
        """Store the cursor. If that fails, an event may come again after a crash, with its id."""
        try:
            await self._context.save_cursor(self._cursor_at(time))
        except HeadraceError as error:
            logger.warning(
                "ping_cursor_not_saved",
                namespace=self._context.namespace,
                name=self._context.name,
                error=str(error),
                next_step="none; the next firing saves it",
            )

    def _due_since(self, last: float) -> list[float]:
        """The times to fire now: those that are just due, and missed ones by the policy."""
        now = self._context.clock.now()
        due = self._schedule.newest(last, now, MISSED_MAX)
        missed = [each for each in due if each < now - LATE_SECONDS]
        kept = {
            MissedRuns.SKIP: [],
            MissedRuns.ONCE: missed[-1:],
            MissedRuns.ALL: missed,
        }[self._config.missed_runs]
        if len(kept) < len(missed):
            logger.warning(
                "ping_times_skipped",
                namespace=self._context.namespace,
                name=self._context.name,
                times=len(missed) - len(kept),
                next_step="none; annotation headrace.dev/missed-runs can fire them",
            )
        return [*kept, *due[len(missed) :]]

    async def _fire(self, emit: Emit, due: float) -> None:
        """Deliver the event of one time; an event that cannot be delivered is logged and counted,
        and the next time comes. A slow sink does not delay the next time.
        """
        try:
            await emit(self._event(due))
        except NotDelivered as error:
            logger.warning(
                "ping_not_delivered",
                namespace=self._context.namespace,
                name=self._context.name,
                error=str(error),
            )
        finally:
            self._slots.release()
        self._open.discard(due)
        self._done.add(due)
        earlier = [each for each in self._done if each < min(self._open, default=inf)]
        if earlier:
            self._done.difference_update(earlier)
            await self._save(max(earlier))

    def _event(self, due: float) -> Event:
        config = self._config
        return new_event(
            config.type,
            config.source,
            self._data if self._data else None,
            id=str(uuid5(NAMESPACE_URL, f"{self._context.uid}/{due:.0f}")),
            content_type=config.content_type or None,
            time=event_time(due, "seconds"),
        )
