"""Counts the dead letters of each subscription that wait in its topic, for a metric: read from the
log, because most dead letters are from before this process started.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Feeds
from headrace_dispatcher.periodic_queries import query_periodically
from headrace_dispatcher.subscription_worker import SubscriptionWorker

_TOGETHER_SECONDS: Final = 1.0
logger = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 30.0
"""Each time costs a few requests to each broker, and more for groups whose topics are not empty."""


class DeadLetterCount:
    """Counts the dead letters of all subscriptions of one process."""

    def __init__(
        self,
        feeds: Feeds,
        workers: Callable[[], Collection[SubscriptionWorker]],
        *,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._feeds = feeds
        self._workers = workers
        self._every_seconds = every_seconds
        self._added = asyncio.Event()

    def count_soon(self) -> None:
        """Count a subscription that was added; several that are added together are counted at
        once.
        """
        self._added.set()

    async def run(self) -> None:
        """Count again and again, until cancelled."""
        await query_periodically(
            self._try_count,
            self._added,
            every_seconds=self._every_seconds,
            together_seconds=_TOGETHER_SECONDS,
        )

    async def _try_count(self, all_workers: bool) -> None:
        workers = self._workers()
        if not all_workers:
            workers = [each for each in workers if each.metrics.dead_letters_waiting is None]
        try:
            await self._count(workers)
        except HeadraceError as error:
            logger.info("dead_letters_not_counted", error=str(error))
        except Exception:
            # Nothing may end this: the metric would never change again.
            logger.exception("dead_letters_not_counted")

    async def _count(self, workers: Collection[SubscriptionWorker]) -> None:
        """Count once. A subscription keeps its last count when a partition does not answer. Raises
        a `HeadraceError` when nothing answers.
        """
        # Retries and dead letters have one group.
        topics = {each.subscription.retry_topic: each.subscription.dead_topic for each in workers}
        if not topics:
            return
        backlog = await self._feeds.backlog({group: [topic] for group, topic in topics.items()})
        for worker in workers:
            count = backlog.exactly(worker.subscription.retry_topic)
            if count is not None:
                worker.metrics.dead_letters_waiting = count
