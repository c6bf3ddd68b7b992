"""What waits in groups nobody reads: one partition that does not answer hides no other, and is not
taken for empty.
"""

from collections.abc import Collection, Mapping

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.adapters.kafka.consumer.group_lag import read_group_lag
from headrace.domain.record import Partition

TIMED_OUT = KafkaException(KafkaError(KafkaError._TIMED_OUT))
A0, A1, B0, C0 = Partition("a", 0), Partition("a", 1), Partition("b", 0), Partition("c", 0)


class Kafka:
    """Two brokers, of which some are silent; implements `GroupLagQueries`."""

    def __init__(
        self, *, silent: Collection[int] = (), silent_groups: Collection[str] = ()
    ) -> None:
        self.asked: list[Partition] = []
        self.led = {A0: 1, A1: 2, B0: 2, C0: 1, Partition("other", 0): 2}
        self._silent = silent
        self._silent_groups = silent_groups

    def leaders(self, seconds: float) -> Mapping[Partition, int]:
        """As the port."""
        return self.led

    def watermarks(self, partition: Partition, seconds: float) -> tuple[int, int]:
        """Ten records behind a first that has expired, but for c, which is empty."""
        self.asked.append(partition)
        if self.led[partition] in self._silent:
            raise TIMED_OUT
        return (3, 3) if partition == C0 else (3, 10)

    def committed(
        self, group: str, partitions: Collection[Partition], seconds: float
    ) -> Mapping[Partition, int]:
        """Group `a` has committed 8 in its first partition and nothing in the other."""
        if group in self._silent_groups:
            raise TIMED_OUT
        return {each: 8 if each == A0 else -1001 for each in partitions}


GROUPS = {"a": ("a",), "b": ("b",), "c": ("c",), "lost": ("no-such-topic",)}


def test_everything_is_known_when_everybody_answers() -> None:
    """What is committed is not counted, nor what has expired; topics that nobody asked about are
    not looked at.
    """
    kafka = Kafka()
    found = read_group_lag(kafka, GROUPS, seconds=10)
    assert {"a": {A0: 2, A1: 7}, "b": {B0: 7}, "c": {C0: 0}, "lost": {}} == found.waiting
    assert {"a": 9, "b": 7, "c": 0, "lost": 0} == {group: found.exactly(group) for group in GROUPS}
    assert ({}, [A0, A1, B0, C0]) == (found.unknown, kafka.asked)


def test_a_silent_broker_leaves_the_partitions_of_the_others_known() -> None:
    """Its own are absent and counted; it is asked once."""
    kafka = Kafka(silent=[2])
    found = read_group_lag(kafka, GROUPS, seconds=10)
    assert {"a": {A0: 2}, "b": {}, "c": {C0: 0}, "lost": {}} == found.waiting
    assert {"a": 1, "b": 1} == found.unknown
    assert (2, None, 0, None) == (
        found.at_least("a"),
        found.exactly("a"),
        found.at_least("b"),
        found.exactly("b"),
    )
    assert [A0, A1, C0] == kafka.asked


def test_a_partition_without_leader_is_not_asked() -> None:
    """Nobody would answer, and others would wait for that."""
    kafka = Kafka()
    kafka.led[A1] = -1
    found = read_group_lag(kafka, GROUPS, seconds=10)
    assert ({"a": 1}, {A0: 2}) == (found.unknown, found.waiting["a"])


def test_a_silent_coordinator_leaves_the_other_groups_known() -> None:
    """Its group is unknown where its topics are not empty."""
    found = read_group_lag(Kafka(silent_groups=["a", "c"]), GROUPS, seconds=10)
    assert ({"a": 2}, 7, 0) == (found.unknown, found.exactly("b"), found.exactly("c"))


def test_no_time_left_is_no_answer() -> None:
    """Everything is counted as unknown, and nothing is asked for longer than there is time."""
    kafka = Kafka()
    found = read_group_lag(kafka, GROUPS, seconds=0)
    assert ({"a": 2, "b": 1, "c": 1}, []) == (found.unknown, kafka.asked)


def test_nothing_known_of_the_topics_is_an_error() -> None:
    """Then there is nothing to be absent from."""

    class Dead(Kafka):
        def leaders(self, seconds: float) -> Mapping[Partition, int]:
            raise TIMED_OUT

    with pytest.raises(KafkaException):
        read_group_lag(Dead(), GROUPS, seconds=10)
