"""The ports of a process that serves several backends: each call goes to the backend of the topic.

The prefix of a topic's name says which backend it is in (see `headrace.domain.backend_name`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from headrace.domain.backend_name import KAFKA, backend_of
from headrace.domain.errors import HeadraceError, TopicMissing
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig
from headrace.domain.ports import Feed, Feeds, Log, OnStored
from headrace.domain.record import Record

logger = structlog.get_logger(__name__)


class LogByBackend:
    """Implements `headrace.domain.ports.Log` over the logs of several backends."""

    def __init__(self, logs: Mapping[str, Log]) -> None:
        """`logs` by backend."""
        self._logs = logs

    @classmethod
    def adding(cls, log: Log, backend: str, added: Log) -> "LogByBackend":
        """Return `log` with the log of one more backend; `log` alone is that of Kafka."""
        logs = log._logs if isinstance(log, cls) else {KAFKA: log}
        return cls({**logs, backend: added})

    def append(self, topic: str, record: Record, stored: OnStored) -> None:
        """See the port. Raises TopicMissing if this process does not serve the topic's backend."""
        log = self._logs.get(backend_of(topic))
        if log is None:
            raise TopicMissing(topic)
        log.append(topic, record, stored)

    async def flush(self, timeout_seconds: float) -> int:
        """See the port."""
        return sum(
            await asyncio.gather(*(log.flush(timeout_seconds) for log in self._logs.values()))
        )


class FeedsByBackend:
    """Implements `headrace.domain.ports.Feeds` over the feeds of several backends."""

    def __init__(self, feeds: Mapping[str, Feeds]) -> None:
        """`feeds` by backend."""
        self._feeds = feeds

    @classmethod
    def adding(cls, feeds: Feeds, backend: str, added: Feeds) -> "FeedsByBackend":
        """Return `feeds` with those of one more backend; `feeds` alone are those of Kafka."""
        known = feeds._feeds if isinstance(feeds, cls) else {KAFKA: feeds}
        return cls({**known, backend: added})

    async def prepare(self) -> None:
        """See the port. Another backend than Kafka that does not answer yet holds up nothing: its
        feeds begin when it does.
        """
        results = await asyncio.gather(
            *(feeds.prepare() for feeds in self._feeds.values()), return_exceptions=True
        )
        for backend, result in zip(self._feeds, results, strict=True):
            if isinstance(result, HeadraceError) and backend != KAFKA:
                logger.warning("backend_unavailable", backend=backend, error=str(result))
            elif isinstance(result, BaseException):
                raise result

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> Feed:
        """See the port. Raises TopicMissing if this process does not serve the topics' backend."""
        feeds = self._feeds.get(backend_of(config.topics[0]))
        if feeds is None:
            raise TopicMissing(config.topics[0])
        return feeds.open(config, alarm)

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """See the port. A backend that does not answer counts as unknown; an error is raised only
        if none answers.
        """
        asked: dict[str, dict[str, Sequence[str]]] = {}
        for group, topics in groups.items():
            asked.setdefault(backend_of(topics[0]), {})[group] = topics
        results = await asyncio.gather(
            *(self._feeds[backend].backlog(each) for backend, each in asked.items()),
            return_exceptions=True,
        )
        answers: list[Backlog] = []
        failures: list[HeadraceError] = []
        unknown: dict[str, int] = {}
        for requested, result in zip(asked.values(), results, strict=True):
            if isinstance(result, HeadraceError):
                failures.append(result)
                unknown |= {group: len(topics) for group, topics in requested.items()}
            elif isinstance(result, BaseException):
                raise result
            else:
                answers.append(result)
        if failures and not answers:
            raise failures[0]
        return Backlog(
            waiting={group: found for each in answers for group, found in each.waiting.items()},
            unknown=unknown | {g: count for each in answers for g, count in each.unknown.items()},
        )
