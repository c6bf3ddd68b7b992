"""Where a group begins in a foreign cluster. The client is the test's."""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from headrace.adapters.kafka.consumer import initial_offsets
from headrace.adapters.kafka.consumer.initial_offsets import commit_initial_offsets
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import WriteRefused
from headrace.domain.feed import InitialOffset

OPTIONS = KafkaOptions(bootstrap_servers="127.0.0.1:9")


class Client:
    """A client of a cluster with a topic of one partition, whose log is 3 to 9."""

    def __init__(self, errors: Sequence[int]) -> None:
        self._errors = list(errors)
        """What the first requests for the ends of the log are answered with."""
        self.committed_offsets: list[int] = []

    def committed(self, partitions: list[TopicPartition], timeout: float) -> Any:
        """As Consumer."""
        return [TopicPartition(each.topic, each.partition, OFFSET_INVALID) for each in partitions]

    def get_watermark_offsets(self, *_: object, timeout: float) -> tuple[int, int]:
        """As Consumer."""
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        return 3, 9

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> Any:
        """As Consumer."""
        self.committed_offsets = [each.offset for each in offsets]
        return offsets

    def close(self) -> None:
        """As Consumer."""


def begin(monkeypatch: pytest.MonkeyPatch, client: Client) -> int:
    """Commit where the group begins."""
    monkeypatch.setattr(initial_offsets, "Consumer", lambda *_, **__: client)
    monkeypatch.setattr(initial_offsets._GroupClient, "partitions", lambda *_: {"t": 1})
    return commit_initial_offsets(OPTIONS, "g", ["t"], InitialOffset.LATEST, seconds=5.0)


def test_the_election_of_a_leader_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partitions of a topic that was just created have none at first."""
    client = Client([KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
    assert 1 == begin(monkeypatch, client)
    assert [9] == client.committed_offsets


def test_a_refusal_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be refused again."""
    with pytest.raises(WriteRefused):
        begin(monkeypatch, Client([KafkaError.TOPIC_AUTHORIZATION_FAILED]))
