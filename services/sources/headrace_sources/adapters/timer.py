"""IntegrationSource `timer`: the same message at a fixed period, as Camel's timer sends it.

For a schedule of the calendar there is PingSource. One process sends. The cursor is how many events
were sent, and the time of the newest one: a process that takes over continues after it, so that a
period has one event and `repeatCount` holds. The id of an event is derived from its number, so an
event that is sent again after a crash has the same one.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from uuid import NAMESPACE_URL, uuid5

import structlog
from pydantic import Field

from headrace.domain.attributes import check
from headrace.domain.errors import HeadraceError
from headrace.domain.event import Event, InvalidEvent
from headrace_sources.adapters.due_time import sleep_towards
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

SAVE_SECONDS_MIN: Final = 0.5
"""A cursor is saved no more often. After a crash, the events since then are sent again."""

_STOP_SECONDS: Final = 4.0
"""For the cursor of a source that is stopped."""


class TimerConfig(SourceConfig):
    """What is sent, and how often."""

    type: str
    source: str
    subject: str
    message: str
    period: int = Field(default=1000, ge=1)
    """Milliseconds from one event to the next."""
    content_type: str = "text/plain"
    repeat_count: int = Field(default=0, ge=0)
    """How many events are sent in all; 0: without end."""


class TimerSource:
    """The adapter."""

    Config: ClassVar[type[SourceConfig]] = TimerConfig

    def __init__(self, config: TimerConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._period = config.period / 1000
        self._count, self._time = _position(context.cursor)
        self._saved_at = 0.0
        self._saved_count = self._count
        try:
            check(self._event(0.0).attributes)
        except InvalidEvent as error:
            text = f"change spec.timer.contentType: {error}"
            raise SourceFault("InvalidData", text) from None

    async def run(self, emit: Emit) -> None:
        """Send until cancelled, or until all events are sent. A slow sink delays the next event, as
        in Camel, and the periods that have passed meanwhile have no event.
        """
        clock = self._context.clock
        try:
            while not self._has_ended():
                while (due := self._due()) > clock.now():
                    await sleep_towards(clock, due)
                await self._send(emit, due)
                if self._has_ended() or clock.now() - self._saved_at >= SAVE_SECONDS_MIN:
                    await self._save()
        finally:
            if self._saved_count != self._count:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await self._save()

    def _has_ended(self) -> bool:
        return 0 < self._config.repeat_count <= self._count

    def _due(self) -> float:
        """The time of the next event: that of the current period if it has none yet."""
        now = self._context.clock.now()
        if self._time is None:
            return now
        # It is later than now if the clock was set back, or that of the process before is ahead.
        self._time = min(self._time, now)
        return self._time + max(1, int((now - self._time) / self._period)) * self._period

    async def _send(self, emit: Emit, due: float) -> None:
        try:
            await emit(self._event(due))
        except NotDelivered as error:
            logger.warning(
                "timer_not_delivered",
                namespace=self._context.namespace,
                name=self._context.name,
                error=str(error),
            )
        self._count += 1
        self._time = due

    async def _save(self) -> None:
        """Store the cursor. If that fails, events may come again after a crash, with their ids."""
        count, self._saved_at = self._count, self._context.clock.now()
        with contextlib.suppress(HeadraceError):
            await self._context.save_cursor(json.dumps({"count": count, "time": self._time}))
            self._saved_count = count

    def _event(self, due: float) -> Event:
        config = self._config
        return new_event(
            config.type,
            config.source,
            config.message.encode(),
            id=str(uuid5(NAMESPACE_URL, f"{self._context.uid}/{self._count + 1}")),
            content_type=config.content_type or None,
            subject=config.subject,
            time=event_time(due),
        )


def _position(cursor: str | None) -> tuple[int, float | None]:
    """How many events were sent, and the time of the newest one; none for a new source."""
    try:
        saved: Mapping[str, Any] = json.loads(cursor or "{}")
        return int(saved["count"]), float(saved["time"])
    except (ValueError, TypeError, KeyError):
        return 0, None
