"""What is known of Kafka from queries of its own."""

import asyncio

import pytest

from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.availability_probe import (
    UNAVAILABLE_SECONDS,
    AvailabilityProbe,
)
from headrace.adapters.memory.clock import MemoryClock


async def test_an_outage_is_named_by_its_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text does not change while it lasts, because clients print each warning once."""

    async def refresh(self: CompactedTopicReader, timeout_seconds: float) -> bool:
        await asyncio.sleep(60)
        return False

    monkeypatch.setattr(CompactedTopicReader, "refresh", refresh)
    options = KafkaOptions(bootstrap_servers="127.0.0.1:1")
    clock = MemoryClock(1_785_542_400.0)
    probe = AvailabilityProbe(CompactedTopicReader(options, "t", lambda records: None), clock)
    clock.advance(60)
    assert probe.last_error is None
    probe.start()
    clock.advance(UNAVAILABLE_SECONDS - 0.1)
    assert probe.last_error is None
    text = "Kafka does not answer; its last answer was at 2026-08-01T00:01:00Z"
    for _ in range(3):
        clock.advance(1)
        assert text == probe.last_error
    probe.stop()
