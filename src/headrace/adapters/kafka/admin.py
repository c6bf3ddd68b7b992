"""Manages topics, groups and offsets through the Kafka admin protocol. Only the controller does
this.

The client's admin calls return futures that another thread completes. The calls and the waits for
their futures run on threads of this adapter, so that a slow Kafka never blocks the event loop.
Every call has one deadline for all of its parts.

Offsets of groups are read and committed through `group_offsets`, many groups in one request. The
client crashes (segmentation fault) when it reads them and a broker answers that it is not, or not
yet, the coordinator of the group (librdkafka issue 5040), which happens after every start of Kafka.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without a stub
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.errors import (
    call_error,
    is_existing_topic,
    is_missing,
    is_missing_group,
    is_unreachable,
)
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, GroupOffsets
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.errors import LogUnavailable, OutcomeUnknown, WriteRefused
from headrace.domain.record import Partition
from headrace.resources.control_ports import (
    ClusterDescription,
    GroupState,
    TopicDescription,
    TopicSpec,
)

T = TypeVar("T")

_THREADS = 4
_CHUNK_SIZE = 500
"""Topics or groups in one request."""
_GRACE_SECONDS = 2.0
_POLL_SECONDS = 1.0


class KafkaTopicAdmin:
    """A `TopicAdmin` over a Kafka cluster."""

    def __init__(self, options: KafkaOptions, *, timeout_seconds: float = 15.0) -> None:
        self._options = options
        self._timeout = timeout_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka-admin")
        self._client: AdminClient | None = None
        self._age: ClientAge | None = None
        self._reconnect = False
        self._offsets: GroupOffsets | None = None

    async def close(self) -> None:
        """Stop the threads, and close all connections. Idempotent. Calls in flight end with an
        error.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client = None
        offsets, self._offsets = self._offsets, None
        if offsets is not None:
            await offsets.close()

    async def cluster(self) -> ClusterDescription:
        """As `TopicAdmin.cluster`."""

        def request(client: AdminClient, deadline: float) -> ClusterDescription:
            found: Any = _result(
                client.describe_cluster(request_timeout=_remaining(deadline)), deadline
            )
            configured = self._options.bootstrap_servers.split(",")
            nodes = [f"{each.host}:{each.port}" for each in found.nodes]
            addresses = dict.fromkeys((*map(str.strip, configured), *nodes))
            return ClusterDescription(found.cluster_id or "", len(found.nodes), tuple(addresses))

        return await self._call("the cluster", request)

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """As `TopicAdmin.describe`."""
        found: dict[str, TopicDescription] = {}
        for names in _chunks(topics):

            def request(
                client: AdminClient, deadline: float, names: Sequence[str] = names
            ) -> dict[str, TopicDescription]:
                return _describe(client, names, deadline, settings=settings)

            found |= await self._call(f"topics {_summary(names)}", request)
        return found

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """As `TopicAdmin.create`."""

        def request(client: AdminClient, deadline: float) -> dict[str, str]:
            new = [
                NewTopic(each.name, each.partitions, each.replication, config=dict(each.settings))
                for each in topics
            ]
            futures = client.create_topics(
                new, operation_timeout=_remaining(deadline), request_timeout=_remaining(deadline)
            )
            return _failures(futures, deadline, ignored=is_existing_topic)

        return (
            await self._call(f"topics {_summary([each.name for each in topics])}", request)
            if topics
            else {}
        )

    async def add_partitions(self, topic: str, total: int) -> None:
        """As `TopicAdmin.add_partitions`."""

        def request(client: AdminClient, deadline: float) -> None:
            new = [NewPartitions(topic, total)]
            futures = client.create_partitions(
                new, operation_timeout=_remaining(deadline), request_timeout=_remaining(deadline)
            )
            _result(futures[topic], deadline)

        await self._call(f"topic {topic}", request)

    async def add_replicas(self, topic: str, total: int) -> None:
        """As `TopicAdmin.add_replicas`. Raises `WriteRefused`: Kafka's clients cannot do this."""
        raise WriteRefused(
            f"topic {topic} cannot get {total} replicas: in Kafka they are added with"
            " kafka-reassign-partitions.sh"
        )

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """As `TopicAdmin.alter`."""

        def request(client: AdminClient, deadline: float) -> None:
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in settings.items()
            ]
            resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
            for future in client.incremental_alter_configs(
                [resource], request_timeout=_remaining(deadline)
            ).values():
                _result(future, deadline)

        if settings:
            await self._call(f"topic {topic}", request)

    async def delete(self, topics: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete`."""

        def request(client: AdminClient, deadline: float) -> dict[str, str]:
            futures = client.delete_topics(
                list(dict.fromkeys(topics)),
                operation_timeout=_remaining(deadline),
                request_timeout=_remaining(deadline),
            )
            return _failures(futures, deadline, ignored=is_missing)

        return await self._call(f"topics {_summary(topics)}", request) if topics else {}

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.ends`."""

        def request(client: AdminClient, deadline: float) -> dict[str, dict[int, int]]:
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            wanted = {
                TopicPartition(name, each): latest
                for name, partitions in topics.items()
                for each in partitions
            }
            found: dict[str, dict[int, int]] = {}
            for partition, future in client.list_offsets(
                wanted, request_timeout=_remaining(deadline)
            ).items():
                answer: Any = _result(future, deadline)
                found.setdefault(partition.topic, {})[partition.partition] = answer.offset
            return found

        return (
            await self._call(f"offsets of {_summary(topics)}", request)
            if any(topics.values())
            else {}
        )

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """As `TopicAdmin.committed`."""
        partitions: dict[str, int] = {}
        for names in _chunks(set(groups.values())):

            def request(
                client: AdminClient, deadline: float, names: Sequence[str] = names
            ) -> dict[str, int]:
                found = _existing_topics(client, names, deadline)
                return {name: len(topic.partitions) for name, topic in found.items()}

            partitions |= await self._call(f"topics {_summary(names)}", request)
        wanted = {
            group: [Partition(topic, number) for number in range(partitions.get(topic, 0))]
            for group, topic in groups.items()
        }
        found = await self._get_offsets().read(wanted, self._timeout)
        return {
            group: {each.partition: position.offset for each, position in positions.items()}
            for group, positions in found.items()
        }

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """As `TopicAdmin.commit`."""
        positions = [
            Position(Partition(topic, partition), offset, "")
            for partition, offset in offsets.items()
        ]
        result = await self._get_offsets().commit(group, positions, self._timeout)
        if result.outcome is CommitOutcome.REFUSED:
            raise next(iter(result.refused.values()))
        if result.outcome is CommitOutcome.MEMBERS:
            raise WriteRefused(result.reason)
        if result.outcome is CommitOutcome.UNKNOWN:
            raise OutcomeUnknown(result.reason)
        if result.outcome is not CommitOutcome.STORED:
            raise LogUnavailable(result.reason)

    async def groups(self, groups: Collection[str]) -> Mapping[str, GroupState]:
        """As `TopicAdmin.groups`."""
        found: dict[str, GroupState] = {}
        for names in _chunks(groups):

            def request(
                client: AdminClient, deadline: float, names: Sequence[str] = names
            ) -> dict[str, GroupState]:
                futures = client.describe_consumer_groups(
                    list(names), request_timeout=_remaining(deadline)
                )
                return {
                    group: _group_state(client, group, future, deadline)
                    for group, future in futures.items()
                }

            found |= await self._call(f"groups {_summary(names)}", request)
        return found

    async def delete_groups(self, groups: Collection[str]) -> Mapping[str, str]:
        """As `TopicAdmin.delete_groups`."""

        def request(client: AdminClient, deadline: float) -> dict[str, str]:
            return _failures(
                client.delete_consumer_groups(list(groups), request_timeout=_remaining(deadline)),
                deadline,
                ignored=is_missing_group,
            )

        return await self._call(f"groups {_summary(groups)}", request) if groups else {}

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """As `TopicAdmin.trim`."""

        def request(client: AdminClient, deadline: float) -> None:
            partitions = [
                TopicPartition(topic, partition, offset) for partition, offset in before.items()
            ]
            for future in client.delete_records(
                partitions,
                operation_timeout=_remaining(deadline),
                request_timeout=_remaining(deadline),
            ).values():
                _result(future, deadline)

        if before:
            await self._call(f"topic {topic}", request)

    async def _call(self, what: str, request: Callable[[AdminClient, float], T]) -> T:
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._timeout
        try:
            # The calls have deadlines themselves. This one covers a thread that never returns.
            async with asyncio.timeout(self._timeout + _GRACE_SECONDS):
                work = loop.run_in_executor(
                    self._threads, lambda: request(self._get_client(), deadline)
                )
                while not (await asyncio.wait({work}, timeout=_POLL_SECONDS))[0]:
                    self._poll_client()
                return work.result()
        except TimeoutError as error:
            self._reconnect = True
            raise LogUnavailable(
                f"{what}: Kafka did not answer within {self._timeout:g} s"
            ) from error
        except KafkaException as error:
            if is_unreachable(error.args[0]):
                self._reconnect = True
            raise call_error(error.args[0], what) from error
        except RuntimeError as error:
            raise LogUnavailable(f"{what}: the admin client is closed") from error

    def _get_offsets(self) -> GroupOffsets:
        if self._offsets is None:
            self._offsets = GroupOffsets(self._options)
        return self._offsets

    def _poll_client(self) -> None:
        """Let the client log why a call takes so long: it only logs when it is polled."""
        if self._client is not None:
            self._client.poll(0)

    def _get_client(self) -> AdminClient:
        # Not on the event loop: creating or closing a client holds the interpreter lock for a
        # moment.
        outdated = self._age is not None and self._age.outdated
        if self._client is None or self._reconnect or outdated:
            self._reconnect = False
            self._age = self._options.credentials.age("admin")
            self._client = AdminClient(self._options.client(), logger=client_logger)
        return self._client


def _existing_topics(client: AdminClient, names: Sequence[str], deadline: float) -> dict[str, Any]:
    """Return what the client describes of those topics that exist."""
    found: dict[str, Any] = {}
    for name, future in client.describe_topics(
        TopicCollection(list(names)), request_timeout=_remaining(deadline)
    ).items():
        try:
            found[name] = _result(future, deadline)
        except KafkaException as error:
            if not is_missing(error.args[0]):
                raise
    return found


def _describe(
    client: AdminClient, names: Sequence[str], deadline: float, *, settings: bool
) -> dict[str, TopicDescription]:
    described = _existing_topics(client, names, deadline)
    if not settings:
        return {name: _description(name, topic, {}) for name, topic in described.items()}
    found: dict[str, TopicDescription] = {}
    if not described:
        return found
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in described]
    for resource, config in client.describe_configs(
        resources, request_timeout=_remaining(deadline)
    ).items():
        try:
            entries: Any = _result(config, deadline)
        except KafkaException as error:
            # Deleted between the two calls.
            if is_missing(error.args[0]):
                continue
            raise
        values = {name: entry.value for name, entry in entries.items() if entry.value is not None}
        found[resource.name] = _description(resource.name, described[resource.name], values)
    return found


def _description(name: str, topic: Any, settings: Mapping[str, str]) -> TopicDescription:
    return TopicDescription(
        name=name,
        partitions=len(topic.partitions),
        replication=min((len(partition.replicas) for partition in topic.partitions), default=0),
        id=str(topic.topic_id),
        settings=settings,
    )


def _group_state(client: AdminClient, group: str, future: Any, deadline: float) -> GroupState:
    try:
        found: Any = _result(future, deadline)
    except KafkaException as error:
        if is_missing_group(error.args[0]):
            return GroupState.ABSENT
        raise
    if found.members:
        return GroupState.LIVE
    # Older brokers report a group that was never joined or does not exist as Dead, and a group that
    # only has offsets as Empty.
    if found.state == ConsumerGroupState.DEAD:
        return GroupState.ABSENT
    return GroupState.EMPTY if found.state == ConsumerGroupState.EMPTY else GroupState.LIVE


def _failures(
    futures: Mapping[str, "Future[Any]"], deadline: float, *, ignored: Callable[[KafkaError], bool]
) -> dict[str, str]:
    """Return the names whose call failed, with the reason. Errors that `ignored` accepts are left
    out.
    """
    refused: dict[str, str] = {}
    for name, future in futures.items():
        try:
            _result(future, deadline)
        except KafkaException as error:
            if not ignored(error.args[0]):
                refused[name] = f"{error.args[0].str()} ({error.args[0].name()})"
    return refused


def _result(future: "Future[T]", deadline: float) -> T:
    return future.result(_remaining(deadline) + 0.5)


def _remaining(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _chunks(names: Collection[str]) -> list[list[str]]:
    ordered = sorted(names)
    return [ordered[start : start + _CHUNK_SIZE] for start in range(0, len(ordered), _CHUNK_SIZE)]


def _summary(names: Collection[str]) -> str:
    some = sorted(names)[:3]
    return ", ".join(some) + (
        f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    )
