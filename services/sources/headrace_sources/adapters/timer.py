"""IntegrationSource `timer`: a message again and again, at a fixed period, as Camel's timer sends
it.

For a schedule by the clock there is PingSource. One process sends. The cursor is the number of
events sent, so that `repeatCount` holds over a restart.
"""

import asyncio
from typing import ClassVar
from uuid import NAMESPACE_URL, uuid5

from pydantic import Field

from headrace_sources.source import (
    Emit,
    NotDelivered,
    SourceConfig,
    SourceContext,
    new_event,
)


class TimerConfig(SourceConfig):
    """What is sent, and how often."""

    type: str
    source: str
    subject: str
    message: str
    period: int = Field(default=1000, ge=1)
    """Milliseconds from one event to the next."""
    content_type: str = "text/plain"
    repeat_count: int = 0
    """How many events are sent in all; 0: without end."""


class TimerSource:
    """The adapter."""

    Config: ClassVar[type[SourceConfig]] = TimerConfig

    def __init__(self, config: TimerConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    async def run(self, emit: Emit) -> None:
        """Send until cancelled, or until all events are sent. A slow sink delays the next event, as
        in Camel.
        """
        config, loop = self._config, asyncio.get_running_loop()
        count = self._count()
        due = loop.time()
        while not config.repeat_count or count < config.repeat_count:
            count += 1
            event = new_event(
                config.type,
                config.source,
                config.message.encode(),
                id=str(uuid5(NAMESPACE_URL, f"{self._context.uid}/{count}")),
                content_type=config.content_type,
                subject=config.subject,
            )
            try:
                await emit(event)
            except NotDelivered as error:
                self._context.report("DeliveryHealthy", False, "NotDelivered", str(error))
            await self._context.save_cursor(str(count))
            due = max(due + config.period / 1000, loop.time())
            await asyncio.sleep(due - loop.time())

    def _count(self) -> int:
        cursor = self._context.cursor or "0"
        return int(cursor) if cursor.isdecimal() else 0
