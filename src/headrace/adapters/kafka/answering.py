"""Whether Kafka answers this process: asked now and then, since a client that has nothing to ask
does not notice that nobody answers.
"""

import asyncio

from headrace.adapters.kafka.follower import TopicFollower
from headrace.domain.ports import Clock

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 5.0
"""A late answer is one too: on a busy machine a look may take seconds."""
SILENT_SECONDS = 6.0
"""Without an answer for so long, Kafka is said not to answer; below that it may be one slow
request.
"""


class Answering:
    """Looks through a follower, which has started."""

    def __init__(self, follower: TopicFollower, clock: Clock) -> None:
        self._follower = follower
        self._clock = clock
        self._answered_at = clock.monotonic()
        self._task: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Since when Kafka does not answer, and why, where that is known; None while it does, and
        before the start.
        """
        silent = self._clock.monotonic() - self._answered_at
        if self._task is None or silent < SILENT_SECONDS:
            return None
        return f"Kafka does not answer, for {silent:.0f} s now" + (
            f": {self._follower.problem}" if self._follower.problem else ""
        )

    def start(self) -> None:
        """Begin to look."""
        self._answered_at = self._clock.monotonic()
        self._task = asyncio.create_task(self._look(), name="looks at kafka")

    def stop(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _look(self) -> None:
        while True:
            if await self._follower.refresh(ANSWER_SECONDS):
                self._answered_at = self._clock.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
