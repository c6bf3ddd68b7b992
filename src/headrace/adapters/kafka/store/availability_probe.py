"""Whether Kafka answers this process: asked now and then, since a client that has nothing to ask
does not notice that nobody answers.
"""

import asyncio

from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.domain.ports import Clock

PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 5.0
"""A late answer is one too: on a busy machine a look may take seconds."""
UNAVAILABLE_SECONDS = 6.0
"""Without an answer for so long, Kafka is said not to answer; below that it may be one slow
request.
"""


class AvailabilityProbe:
    """Looks through a follower, which has started."""

    def __init__(self, reader: CompactedTopicReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._answered_at = clock.monotonic()
        self._task: asyncio.Task[None] | None = None

    @property
    def last_error(self) -> str | None:
        """Since when Kafka does not answer, and why, where that is known; None while it does, and
        before the start.
        """
        silent = self._clock.monotonic() - self._answered_at
        if self._task is None or silent < UNAVAILABLE_SECONDS:
            return None
        return f"Kafka does not answer, for {silent:.0f} s now" + (
            f": {self._reader.last_error}" if self._reader.last_error else ""
        )

    def start(self) -> None:
        """Begin to look."""
        self._answered_at = self._clock.monotonic()
        self._task = asyncio.create_task(self._run(), name="looks at kafka")

    def stop(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        while True:
            if await self._reader.refresh(PROBE_TIMEOUT_SECONDS):
                self._answered_at = self._clock.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
