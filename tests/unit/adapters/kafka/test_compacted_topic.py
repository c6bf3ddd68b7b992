"""What is logged, and what is known of Kafka, while a compacted topic cannot be read."""

import math
import time

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from headrace.adapters.kafka.compacted_topic import (
    _ELECTION_SECONDS,
    SILENT_SECONDS,
    CompactedTopicReader,
)
from headrace.adapters.kafka.options import KafkaOptions

ELECTION = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
OUTAGE = KafkaError(KafkaError._TRANSPORT)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, in its only element."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def reader() -> CompactedTopicReader:
    """One that is not started: the test reports its errors."""
    options = KafkaOptions(bootstrap_servers="127.0.0.1:1")
    return CompactedTopicReader(options, "headrace.resources", lambda records: None)


def test_an_election_is_a_warning_when_it_takes_long(
    reader: CompactedTopicReader, clock: list[float]
) -> None:
    """It is usual after a topic was created. The reader is not ready meanwhile, and says why."""
    with capture_logs() as lines:
        for _ in range(5):
            reader._on_error(ELECTION)
            clock[0] += _ELECTION_SECONDS / 5 - 0.01
    assert [] == lines
    assert "NOT_LEADER_FOR_PARTITION" in (reader.last_error or "")
    clock[0] += 0.1
    with capture_logs() as lines:
        reader._on_error(ELECTION)
        reader._on_error(ELECTION)
    assert ["topic_not_readable"] == [each["event"] for each in lines]


def test_another_error_is_a_warning_at_once_and_once(
    reader: CompactedTopicReader, clock: list[float]
) -> None:
    """Also in the middle of an election; and again after it was readable."""
    with capture_logs() as lines:
        reader._on_error(ELECTION)
        reader._on_error(OUTAGE)
        reader._on_error(OUTAGE)
    assert 1 == len(lines)
    reader._set_readable()
    assert reader.last_error is None
    with capture_logs() as lines:
        reader._on_error(OUTAGE)
    assert 1 == len(lines)


def test_a_kafka_that_is_frozen_does_not_answer(
    clock: list[float], reader: CompactedTopicReader
) -> None:
    """It gives no error, so the silence counts. It answers from the first answer after it."""
    assert math.inf == reader.answering_seconds
    clock[0] += SILENT_SECONDS - 0.1
    assert math.inf == reader.answering_seconds
    reader._set_readable()
    clock[0] += SILENT_SECONDS
    assert 0 == reader.answering_seconds
    clock[0] += 20
    reader._set_readable()
    clock[0] += 2
    assert (2, 2) == (reader.silent_seconds, reader.answering_seconds)


def test_an_error_is_no_answer_however_short_it_is(
    clock: list[float], reader: CompactedTopicReader
) -> None:
    """Records that were received before do not end it."""
    reader._on_error(OUTAGE)
    assert 0 == reader.answering_seconds
    reader._note_answer()
    assert 0 == reader.answering_seconds
    clock[0] += 1
    reader._set_readable()
    clock[0] += 2
    assert 2 == reader.answering_seconds
