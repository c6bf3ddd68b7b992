"""The requests about the offsets of groups, as values of aiokafka, and what their answers say.

aiokafka has FindCoordinator and OffsetFetch for one group per request. The versions for many groups
(KIP-699 and KIP-709, Kafka 3.0) are defined here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from headrace.adapters.kafka.consumer.positions import Position
from headrace.domain.record import Partition

OFFSET_FETCH: Final = 9
OFFSET_FETCH_MANY: Final = 8
"""The first version of OffsetFetch that takes many groups."""
FIND_COORDINATOR: Final = 10
FIND_COORDINATOR_MANY: Final = 4
"""The first version of FindCoordinator that takes many groups."""
_GROUP: Final = 0
"""The type of coordinator that groups have."""
METADATA_END: Final = "\x00"
"""librdkafka commits metadata with this character, and reads bytes of its memory after metadata
without it. Other members of the group use librdkafka: those of an earlier version.
"""
_NO_GENERATION: Final = -1
_DEFAULT_RETENTION: Final = -1


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class GroupPositions(NamedTuple):
    """The answer about one group. Errors are codes of the protocol, 0 for none."""

    error: int
    positions: Mapping[Partition, Position]
    """Without partitions that have no offset."""
    refused: Mapping[Partition, int]


def _flexible(key: int, version: int, request: Schema, response: Schema) -> Any:
    """Return the class of a request, as aiokafka has it for each version of each kind."""
    kind = {"API_KEY": key, "API_VERSION": version}
    answer = type("Answer", (Response,), {**kind, "SCHEMA": response})
    form = {"SCHEMA": request, "RESPONSE_TYPE": answer, "FLEXIBLE_VERSION": True}
    return type("Question", (RequestStruct,), {**kind, **form})


_TAGS: Final = ("tags", TaggedFields)
_FIND_COORDINATORS: Final = _flexible(
    FIND_COORDINATOR,
    FIND_COORDINATOR_MANY,
    Schema(
        ("coordinator_type", Int8),
        ("coordinator_keys", CompactArray(CompactString())),
        _TAGS,
    ),
    Schema(
        ("throttle_time_ms", Int32),
        (
            "coordinators",
            CompactArray(
                ("key", CompactString()),
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("error_code", Int16),
                ("error_message", CompactString()),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
)
_FETCH_OFFSETS: Final = _flexible(
    OFFSET_FETCH,
    OFFSET_FETCH_MANY,
    Schema(
        (
            "groups",
            CompactArray(
                ("group", CompactString()),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString()), ("partitions", CompactArray(Int32)), _TAGS
                    ),
                ),
                _TAGS,
            ),
        ),
        ("require_stable", Boolean),
        _TAGS,
    ),
    Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            CompactArray(
                ("group", CompactString()),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString()),
                        (
                            "partitions",
                            CompactArray(
                                ("partition", Int32),
                                ("offset", Int64),
                                ("leader_epoch", Int32),
                                ("metadata", CompactString()),
                                ("error_code", Int16),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                ("error_code", Int16),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
)


class _Prepared:
    """A request of which the version is chosen already."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def prepare(self, _: object) -> Any:
        """Called by aiokafka with the versions of the broker."""
        return self._request


def find_coordinators(groups: Sequence[str]) -> Any:
    """Return the request for the coordinators of many groups."""
    return _Prepared(_FIND_COORDINATORS(_GROUP, groups, {}))


def fetch_offsets_of_many(groups: Mapping[str, Collection[Partition]]) -> Any:
    """Return the request for the offsets of many groups."""
    asked: list[tuple[Any, ...]] = [
        (group, [(topic, numbers, {}) for topic, numbers in by_topic(partitions)], {})
        for group, partitions in groups.items()
    ]
    return _Prepared(_FETCH_OFFSETS(asked, False, {}))


def find_coordinator(group: str) -> Any:
    """Return the request for the coordinator of one group."""
    return FindCoordinatorRequest(group, _GROUP)


def fetch_offsets(group: str, partitions: Collection[Partition]) -> Any:
    """Return the request for the offsets of one group."""
    return OffsetFetchRequest(group, list(by_topic(partitions)))


def commit_offsets(group: str, positions: Sequence[Position]) -> Any:
    """Return the request that commits for a group without being a member of it."""
    topics: dict[str, list[tuple[int, int, str]]] = {}
    for (topic, number), offset, metadata in positions:
        text = metadata + METADATA_END if metadata else ""
        topics.setdefault(topic, []).append((number, offset, text))
    return OffsetCommitRequest(group, _NO_GENERATION, "", _DEFAULT_RETENTION, list(topics.items()))


def found_coordinators(answer: Any) -> Iterator[tuple[str, Address, int]]:
    """Yield group, coordinator and error of each group in the answer to `find_coordinators`."""
    for group, _, host, port, error, _, _ in answer.coordinators:
        yield group, Address(host, port), error


def found_coordinator(answer: Any) -> tuple[Address, int]:
    """Return coordinator and error of the answer to `find_coordinator`."""
    return Address(answer.host, answer.port), answer.error_code


def fetched_offsets(answer: Any) -> Iterator[tuple[str, GroupPositions]]:
    """Yield each group in the answer to `fetch_offsets_of_many`."""
    for group, topics, error, _ in answer.groups:
        yield (
            group,
            _group_positions(
                error,
                (
                    (topic, number, offset, metadata, refused)
                    for topic, partitions, _ in topics
                    for number, offset, _, metadata, refused, _ in partitions
                ),
            ),
        )


def fetched_offsets_of_one(answer: Any) -> GroupPositions:
    """Return what the answer to `fetch_offsets` has. Its first version has no error of the group,
    only of partitions.
    """
    return _group_positions(
        getattr(answer, "error_code", 0),
        (
            (topic, number, offset, metadata, refused)
            for topic, partitions in answer.topics
            for number, offset, metadata, refused in partitions
        ),
    )


def refused_offsets(answer: Any) -> dict[Partition, int]:
    """Return the errors in the answer to `commit_offsets`, empty if everything is stored."""
    return {
        Partition(topic, number): error
        for topic, partitions in answer.topics
        for number, error in partitions
        if error
    }


def _group_positions(
    error: int, answers: Iterator[tuple[str, int, int, str | None, int]]
) -> GroupPositions:
    positions, refused = {}, {}
    for topic, number, offset, metadata, code in answers:
        partition = Partition(topic, number)
        if code:
            refused[partition] = code
        elif offset >= 0:
            text = (metadata or "").removesuffix(METADATA_END)
            positions[partition] = Position(partition, offset, text)
    return GroupPositions(error, positions, refused)


def by_topic(partitions: Collection[Partition]) -> Iterator[tuple[str, list[int]]]:
    """Yield each topic with its partitions."""
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    yield from topics.items()
