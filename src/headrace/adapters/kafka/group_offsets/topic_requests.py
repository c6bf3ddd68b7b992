"""The requests about the partitions of topics, as values of aiokafka, and their answers."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Final, NamedTuple

from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from headrace.adapters.kafka.group_offsets.requests import Address, by_topic
from headrace.domain.record import Partition

Place = tuple[int, int]
"""A place in a log: the number that stands for it, and an isolation level."""
_READ_UNCOMMITTED: Final = 0
_READ_COMMITTED: Final = 1
FIRST: Final[Place] = (-2, _READ_COMMITTED)
"""The first offset of a partition."""
END: Final[Place] = (-1, _READ_COMMITTED)
"""The offset after the last record that a consumer gets."""
LOG_END: Final[Place] = (-1, _READ_UNCOMMITTED)
"""The offset after the last record, also of a transaction that is open."""
_NO_REPLICA: Final = -1


class DescribedTopic(NamedTuple):
    """What a broker knows of a topic."""

    error: int
    """As a code of the protocol, 0 for none."""
    leaders: Mapping[Partition, Address | None]
    """The broker that has each partition; None while there is none."""


def describe_topics(topics: Sequence[str]) -> Any:
    """Return the request for the leaders of these topics, which does not create them."""
    return MetadataRequest(list(topics), allow_auto_topic_creation=False)


def described_topics(answer: Any) -> Iterator[tuple[str, DescribedTopic]]:
    """Yield each topic in the answer to `describe_topics`."""
    brokers = {node: Address(host, port) for node, host, port, *_ in answer.brokers}
    for error, topic, *_, partitions in answer.topics:
        leaders = {
            Partition(topic, number): brokers.get(leader) for _, number, leader, *_ in partitions
        }
        yield topic, DescribedTopic(error, leaders)


class ListOffsets:
    """The request for the offsets of these partitions at a place. Its answer is a mapping of those
    without an error.

    It is sent again and again, and is encoded once. An answer that is equal to the one before,
    which that about idle topics is, is not decoded again.
    """

    def __init__(self, partitions: Collection[Partition], at: Place) -> None:
        place, isolation = at
        asked = [
            (topic, [(number, place) for number in numbers])
            for topic, numbers in by_topic(partitions)
        ]
        self._request = OffsetRequest(_NO_REPLICA, isolation, asked)
        self._prepared: Any = None
        self._versions: tuple[int, int] | None = None

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Called by aiokafka with the versions of the broker."""
        if self._prepared is None or self._versions != versions.get(OffsetRequest.API_KEY):
            self._versions = versions.get(OffsetRequest.API_KEY)
            self._prepared = self._request.prepare(versions)
            encoded = self._prepared.encode()
            self._prepared.encode = lambda: encoded
            self._prepared.RESPONSE_TYPE = _ListedOffsets(self._prepared.RESPONSE_TYPE)
        return self._prepared


class _ListedOffsets:
    """Decodes the answers to a request."""

    def __init__(self, response_type: Any) -> None:
        self._response_type = response_type
        self._answer = b""
        self._offsets: Mapping[Partition, int] = {}

    def decode(self, data: BytesIO) -> Mapping[Partition, int]:
        """Called by aiokafka with the answer after its header."""
        answer = data.read()
        if answer != self._answer:
            self._offsets = {
                Partition(topic, number): offset
                for topic, partitions in self._response_type.decode(answer).topics
                for number, error, _, offset in partitions
                if not error
            }
            self._answer = answer
        return self._offsets
