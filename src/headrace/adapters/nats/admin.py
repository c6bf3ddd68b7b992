"""Manages streams and durable consumers as topics and groups. Only the controller does this.

A group exists when its durable consumer does and its position is known (`groups`). It is live while
a process reports that it reads it, or while a request for its records waits: a process that dies is
gone after 6 s, and records that it has not acknowledged do not make its group live.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.consumers import consumer_state, create_consumer, stream_state
from headrace.adapters.nats.errors import ApiError, call_error
from headrace.adapters.nats.groups import POSITIONS, Buckets, GroupPosition
from headrace.adapters.nats.names import durable_name, stream_name
from headrace.adapters.nats.options import NatsOptions
from headrace.adapters.nats.replicas import replicated_config
from headrace.adapters.nats.stream_config import (
    InvalidSettings,
    altered_config,
    stream_config,
    topic_description,
)
from headrace.domain.errors import WriteRefused
from headrace.resources.control_ports import (
    ClusterDescription,
    GroupState,
    TopicDescription,
    TopicSpec,
)

KeyT = TypeVar("KeyT")
ResultT = TypeVar("ResultT")

_CALLS_MAX: Final = 32
"""Requests at a time."""


class JetStreamTopicAdmin:
    """A `TopicAdmin` over NATS JetStream, with a connection of its own."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self._connection = NatsConnection(options)
        self._buckets = Buckets(self._connection)
        self._limit = asyncio.Semaphore(_CALLS_MAX)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._connection.close()

    async def cluster(self) -> ClusterDescription:
        """As `TopicAdmin.cluster`. The id is that of the account's key-value bucket, which lives as
        long as the data; the number of servers is not known to clients and counts as 3 where the
        buckets could be replicated.
        """
        return await self._call("the cluster", self._cluster())

    async def _cluster(self) -> ClusterDescription:
        await self._connection.wait_connected(self._options.timeout_seconds)
        replicas = await self._buckets.replicate()
        answer = await self._connection.call(f"STREAM.INFO.KV_{POSITIONS}", what="the cluster")
        return ClusterDescription(str(answer["created"]), replicas)

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """As `TopicAdmin.describe`."""
        found = await self._each(topics, self._describe)
        return {name: each for name, each in found.items() if each is not None}

    async def _describe(self, topic: str) -> TopicDescription | None:
        try:
            answer = await self._connection.call(
                f"STREAM.INFO.{stream_name(topic)}", what=f"topic {topic}"
            )
        except ApiError as error:
            if error.stream_missing:
                return None
            raise
        return topic_description(topic, answer)

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """As `TopicAdmin.create`. Topics have one partition; more are refused."""
        specs = {spec.name: spec for spec in topics}
        return await self._failures(specs, lambda name: self._create(specs[name]))

    async def _create(self, spec: TopicSpec) -> None:
        await self._connection.wait_connected(self._options.timeout_seconds)
        config = stream_config(spec, message_bytes_max=self._message_bytes_max())
        try:
            await self._connection.call(
                f"STREAM.CREATE.{config['name']}", config, what=f"topic {spec.name}"
            )
        except ApiError as error:
            if error.replicas_refused:
                raise WriteRefused(f"replication factor {spec.replication}: {error}") from error
            if not error.stream_exists:
                raise

    async def add_partitions(self, topic: str, total: int) -> None:
        """Raises `WriteRefused`, unless one partition is wanted."""
        if total != 1:
            raise WriteRefused(
                f"topic {topic}: a topic in JetStream has 1 partition, {total} were requested"
            )

    async def add_replicas(self, topic: str, total: int) -> None:
        """As `TopicAdmin.add_replicas`. The durable consumers of the stream get as many."""
        await self._call(f"topic {topic}", self._add_replicas(topic, total))

    async def _add_replicas(self, topic: str, total: int) -> None:
        stream, what = stream_name(topic), f"topic {topic}"
        answer = await self._connection.call(f"STREAM.INFO.{stream}", what=what)
        config = replicated_config(answer, total)
        if config is not None:
            await self._connection.call(f"STREAM.UPDATE.{stream}", config, what=what)
        elif topic_description(topic, answer).replication < total:
            raise WriteRefused(f"{what} cannot get {total} replicas: its server is in no cluster")

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """As `TopicAdmin.alter`."""
        if settings:
            await self._call(f"topic {topic}", self._alter(topic, settings))

    async def _alter(self, topic: str, settings: Mapping[str, str]) -> None:
        stream, what = stream_name(topic), f"topic {topic}"
        answer = await self._connection.call(f"STREAM.INFO.{stream}", what=what)
        try:
            config = altered_config(
                answer["config"], settings, message_bytes_max=self._message_bytes_max()
            )
        except InvalidSettings as error:
            raise WriteRefused(f"{what}: {error.reason}") from error
        await self._connection.call(f"STREAM.UPDATE.{stream}", config, what=what)

    async def delete(self, topics: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete`. The durable consumers of a stream are deleted with it."""
        return await self._failures(topics, self._delete)

    async def _delete(self, topic: str) -> None:
        stream = stream_name(topic)
        try:
            await self._connection.call(f"STREAM.DELETE.{stream}", what=f"topic {topic}")
        except ApiError as error:
            if not error.stream_missing:
                raise

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.ends`."""
        found = await self._each([name for name, wanted in topics.items() if wanted], self._end)
        return {name: dict.fromkeys(topics[name], end) for name, end in found.items()}

    async def _end(self, topic: str) -> int:
        return (await stream_state(self._connection, topic)).end_offset

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.committed`."""
        found = await self._each(groups, lambda group: self._committed(group, groups[group]))
        return {group: {} if offset is None else {0: offset} for group, offset in found.items()}

    async def _committed(self, group: str, topic: str) -> int | None:
        try:
            consumer = await consumer_state(self._connection, group, topic)
        except ApiError as error:
            if error.stream_missing:
                return None
            raise
        if consumer is None:
            return None
        position = await self._buckets.position(group, topic)
        return max(consumer.committed, position.offset if position is not None else 0)

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """As `TopicAdmin.commit`: the durable consumer is created, or replaced by one that begins
        at the offset. Raises `WriteRefused` while the group has members.
        """
        if offsets:
            await self._call(f"group {group}", self._commit(group, topic, offsets))

    async def _commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        if set(offsets) != {0}:
            raise WriteRefused(f"topic {topic} has partition 0 only, not {sorted(offsets)}")
        stream = await stream_state(self._connection, topic)
        if offsets[0] > stream.end_offset:
            raise WriteRefused(
                f"topic {topic} ends at offset {stream.end_offset}, before {offsets[0]}"
            )
        existing = await consumer_state(self._connection, group, topic)
        if existing is not None:
            if await self._is_live(group, await self._buckets.members()):
                raise WriteRefused(f"group {group} has members; only they can commit")
            await self._delete_consumer(group, stream_name(topic))
        await create_consumer(self._connection, group, topic, offsets[0])
        await self._buckets.save_position(
            group, topic, GroupPosition(topic_id=stream.id, offset=offsets[0])
        )

    async def groups(self, groups: Collection[str]) -> Mapping[str, GroupState]:
        """As `TopicAdmin.groups`."""
        if not groups:
            return {}
        members = await self._call("the members of groups", self._buckets.members())
        return await self._each(groups, lambda group: self._state(group, members))

    async def _state(self, group: str, members: Collection[str]) -> GroupState:
        if await self._is_live(group, members):
            return GroupState.LIVE
        streams = await self._streams(group)
        states = [await self._waiting(group, stream) for stream in streams]
        known = [waiting for waiting in states if waiting is not None]
        return GroupState.EMPTY if known else GroupState.ABSENT

    async def _is_live(self, group: str, members: Collection[str]) -> bool:
        if durable_name(group) in members:
            return True
        for stream in await self._streams(group):
            if await self._waiting(group, stream):
                return True
        return False

    async def _streams(self, group: str) -> list[str]:
        """The streams in which a group has a position."""
        keys = await self._buckets.keys(POSITIONS, f"{durable_name(group)}.*")
        return [key.rpartition(".")[2] for key in keys]

    async def _waiting(self, group: str, stream: str) -> int | None:
        """Requests that wait for records of a stream, None if the group has no consumer there."""
        try:
            answer = await self._connection.call(
                f"CONSUMER.INFO.{stream}.{durable_name(group)}", what=f"group {group}"
            )
        except ApiError as error:
            if error.missing:
                return None
            raise
        return int(answer.get("num_waiting", 0))

    async def delete_groups(self, groups: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete_groups`."""
        if not groups:
            return {}
        members = await self._call("the members of groups", self._buckets.members())
        return await self._failures(groups, lambda group: self._delete_group(group, members))

    async def _delete_group(self, group: str, members: Collection[str]) -> None:
        if await self._is_live(group, members):
            raise WriteRefused("the group has members")
        for stream in await self._streams(group):
            await self._delete_consumer(group, stream)
            await self._buckets.delete(POSITIONS, f"{durable_name(group)}.{stream}")

    async def _delete_consumer(self, group: str, stream: str) -> None:
        try:
            await self._connection.call(
                f"CONSUMER.DELETE.{stream}.{durable_name(group)}", what=f"group {group}"
            )
        except ApiError as error:
            if not error.missing:
                raise

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """As `TopicAdmin.delete_records`.

        One by one: at a purge up to a sequence, nats-server 2.9 forgets every record that a
        consumer has delivered and that is not acknowledged. It is not delivered again when its
        member crashes or gives it back (measured with 2.9.10).
        """
        if not before.get(0):
            return
        stream = await self._call(f"topic {topic}", stream_state(self._connection, topic))
        # Sequences begin at 1, offsets at 0.
        sequences = range(stream.first_offset + 1, min(before[0], stream.end_offset) + 1)
        for begin in range(0, len(sequences), _CALLS_MAX):
            calls = (
                self._call(f"topic {topic}", self._delete_message(topic, each))
                for each in sequences[begin : begin + _CALLS_MAX]
            )
            await asyncio.gather(*calls)

    async def _delete_message(self, topic: str, sequence: int) -> None:
        path = f"STREAM.MSG.DELETE.{stream_name(topic)}"
        try:
            await self._connection.call(path, {"seq": sequence, "no_erase": True})
        except ApiError as error:
            if not error.message_missing:
                raise

    # Calls.

    def _message_bytes_max(self) -> int:
        return self._connection.message_bytes_max or -1

    async def _call(self, what: str, call: Awaitable[ResultT]) -> ResultT:
        try:
            async with self._limit:
                return await call
        except ApiError as error:
            raise call_error(error, what) from error

    async def _each(
        self, names: Iterable[KeyT], call: Callable[[KeyT], Awaitable[ResultT]]
    ) -> dict[KeyT, ResultT]:
        """The result for each name; the first error is raised."""
        ordered = list(dict.fromkeys(names))
        results = await asyncio.gather(*(self._call(f"{name}", call(name)) for name in ordered))
        return dict(zip(ordered, results, strict=True))

    async def _failures(
        self, names: Iterable[str], call: Callable[[str], Awaitable[None]]
    ) -> dict[str, str]:
        """The names whose call was refused, with the reason. Raises `LogUnavailable`."""

        async def one(name: str) -> str:
            try:
                async with self._limit:
                    await call(name)
            except InvalidSettings as error:
                return error.reason
            except (ApiError, WriteRefused) as error:
                return str(error)
            return ""

        ordered = list(dict.fromkeys(names))
        reasons = await asyncio.gather(*(one(name) for name in ordered))
        return {name: reason for name, reason in zip(ordered, reasons, strict=True) if reason}
