"""Checks periodically whether Kafka answers this process, because an idle client does not notice an
outage.
"""

import asyncio

from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.domain.ports import Clock
from headrace.resources.timestamps import write_seconds

PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 5.0
"""A late answer counts: on a busy machine a query may take seconds."""
UNAVAILABLE_SECONDS = 6.0
"""Kafka counts as unavailable after this time without an answer; before that it may be one slow
request.
"""


class AvailabilityProbe:
    """Queries through a reader that has been started."""

    def __init__(self, reader: CompactedTopicReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._note_answer()
        self._task: asyncio.Task[None] | None = None

    @property
    def last_error(self) -> str | None:
        """Since when Kafka has not answered, with the reason if it is known. None while it answers,
        and before the start.

        The text stays the same in an outage: clients print a warning once.
        """
        silent = self._clock.monotonic() - self._answered_at
        if self._task is None or silent < UNAVAILABLE_SECONDS:
            return None
        return f"Kafka does not answer; its last answer was at {self._last_answer}" + (
            f": {self._reader.last_error}" if self._reader.last_error else ""
        )

    def start(self) -> None:
        """Start querying."""
        self._note_answer()
        self._task = asyncio.create_task(self._run(), name="kafka availability probe")

    def stop(self) -> None:
        """Stop querying. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        while True:
            if await self._reader.refresh(PROBE_TIMEOUT_SECONDS):
                self._note_answer()
            await asyncio.sleep(PROBE_SECONDS)

    def _note_answer(self) -> None:
        self._answered_at = self._clock.monotonic()
        self._last_answer = write_seconds(self._clock.now())
