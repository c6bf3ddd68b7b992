"""The requests about the partitions of topics, as values of aiokafka, and their answers."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from headrace.adapters.kafka.group_offsets.requests import Address, by_topic
from headrace.domain.record import Partition

FIRST: Final = -2
"""Stands for the first offset of a partition."""
END: Final = -1
"""Stands for the offset after the last record that a consumer gets."""
_NO_REPLICA: Final = -1
_READ_COMMITTED: Final = 1


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


def list_offsets(partitions: Collection[Partition], at: int) -> Any:
    """Return the request for the offsets of these partitions at `FIRST` or `END`."""
    asked = [
        (topic, [(number, at) for number in numbers]) for topic, numbers in by_topic(partitions)
    ]
    return OffsetRequest(_NO_REPLICA, _READ_COMMITTED, asked)


def listed_offsets(answer: Any) -> Iterator[tuple[Partition, int]]:
    """Yield the offsets in the answer to `list_offsets`, without partitions that have an error."""
    for topic, partitions in answer.topics:
        for number, error, _, offset in partitions:
            if not error:
                yield Partition(topic, number), offset
