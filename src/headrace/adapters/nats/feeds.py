"""The feeds of one process over one connection, and the backlog of groups that it does not read."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.consumers import consumer_state, stream_state
from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.feed import JetStreamFeed, SharedClients
from headrace.adapters.nats.groups import Buckets
from headrace.adapters.nats.membership import Membership
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import Backlog, FeedAlarm, FeedConfig
from headrace.domain.record import Partition

_QUERIES_MAX = 32
"""Requests of one `backlog` at a time."""


class JetStreamFeeds:
    """Implements `headrace.domain.ports.Feeds`."""

    def __init__(self, options: NatsOptions, *, drain_seconds: float = 5.0) -> None:
        process = uuid.uuid4().hex
        self._connection = NatsConnection(options)
        self._buckets = Buckets(self._connection)
        self._clients = SharedClients(
            connection=self._connection,
            buckets=self._buckets,
            membership=Membership(self._buckets, process),
            process=process,
        )
        self._drain_seconds = drain_seconds
        self._opened = 0

    async def prepare(self) -> None:
        """Connect, and create the key-value buckets that do not exist. Raises `LogUnavailable`."""
        self._connection.start()
        await self._buckets.create()

    def open(self, config: FeedConfig, alarm: Callable[[FeedAlarm], None]) -> JetStreamFeed:
        """As `headrace.domain.ports.Feeds.open`; every record is handed out, matching or not."""
        self._opened += 1
        return JetStreamFeed(
            config, self._clients, alarm, number=self._opened, drain_seconds=self._drain_seconds
        )

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        """As `headrace.domain.ports.Feeds.backlog`: records of each topic that are not committed.
        Topics that do not exist count as empty.
        """
        await self._connection.wait_connected(self._connection.timeout_seconds)
        waiting: dict[str, dict[Partition, int]] = {group: {} for group in groups}
        unknown: dict[str, int] = {}
        limit = asyncio.Semaphore(_QUERIES_MAX)

        async def one(group: str, topic: str) -> None:
            async with limit:
                try:
                    waiting[group][Partition(topic, 0)] = await self._waiting(group, topic)
                except (ApiError, LogUnavailable) as error:
                    if isinstance(error, ApiError) and error.stream_missing:
                        return
                    unknown[group] = unknown.get(group, 0) + 1

        pairs = [(group, topic) for group, topics in groups.items() for topic in topics]
        await asyncio.gather(*(one(group, topic) for group, topic in pairs))
        if pairs and sum(unknown.values()) == len(pairs):
            raise LogUnavailable("JetStream did not answer a query about consumer groups")
        return Backlog(waiting=waiting, unknown=unknown)

    async def _waiting(self, group: str, topic: str) -> int:
        stream = await stream_state(self._connection, topic)
        consumer = await consumer_state(self._connection, group, topic)
        position = await self._buckets.position(group, topic)
        begun = stream.first_offset
        if position is not None and position.topic_id == stream.id:
            begun = max(begun, position.offset)
        # Records acknowledged beyond the floor are counted once: as neither unread nor pending.
        left = max(stream.end_offset - begun, 0)
        if consumer is not None and consumer.delivered:
            left = min(left, consumer.unread + consumer.unacknowledged)
        return left

    async def close(self) -> None:
        """Close the connection. Idempotent. Feeds are stopped before."""
        self._clients.membership.close()
        await self._connection.close()
