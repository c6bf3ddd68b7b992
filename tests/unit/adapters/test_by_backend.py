"""A process that serves several backends: each topic goes to its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from headrace.adapters.by_backend import FeedsByBackend, LogByBackend
from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.adapters.memory.log import MemoryLog
from headrace.domain.backend_name import IN_MEMORY, JETSTREAM, KAFKA
from headrace.domain.errors import LogUnavailable, TopicMissing
from headrace.domain.feed import Backlog, FeedBounds, FeedConfig
from headrace.domain.record import Partition, Record
from tests.unit.dispatcher.harness import RecordingFeeds


@dataclass
class Backlogs(RecordingFeeds):
    """Feeds that answer with a number of waiting records, or not at all."""

    waiting: int | None = 0
    asked: list[str] = field(default_factory=list)

    async def backlog(self, groups: Mapping[str, Sequence[str]]) -> Backlog:
        self.asked += groups
        if self.waiting is None:
            raise LogUnavailable("nothing answers")
        found = {g: {Partition(topics[0], 0): self.waiting} for g, topics in groups.items()}
        return Backlog(waiting=found, unknown={})


def feeds(waiting: int | None = 0) -> Backlogs:
    """Feeds over an empty log."""
    return Backlogs(MemoryGroups(MemoryLog()), waiting=waiting)


def config(topic: str) -> FeedConfig:
    """A feed of one topic."""
    return FeedConfig(group="g", topics=(topic,), bounds=FeedBounds())


async def test_a_record_is_stored_in_the_backend_of_its_topic() -> None:
    kafka, memory = MemoryLog(), MemoryLog()
    kafka.create("orders")
    memory.create("in-memory:orders")
    log = LogByBackend({KAFKA: kafka, IN_MEMORY: memory})

    log.append("orders", Record(None, b"1"), lambda _: None)
    log.append("in-memory:orders", Record(None, b"2"), lambda _: None)

    assert 0 == await log.flush(5)
    assert [b"1"] == [record.value for record in kafka.topics["orders"][0]]
    assert [b"2"] == [record.value for record in memory.topics["in-memory:orders"][0]]
    with pytest.raises(TopicMissing):
        log.append("jetstream:orders", Record(None, b"3"), lambda _: None)


async def test_records_that_are_open_in_any_backend_are_counted() -> None:
    kafka, memory = MemoryLog(), MemoryLog()
    log = LogByBackend({KAFKA: kafka, IN_MEMORY: memory})
    for each, topic in ((kafka, "orders"), (memory, "in-memory:orders")):
        each.create(topic)
        each.hold()
        log.append(topic, Record(None, b"1"), lambda _: None)

    assert 2 == await log.flush(0.01)


def test_a_feed_is_opened_in_the_backend_of_its_topic() -> None:
    kafka, memory = feeds(), feeds()
    both = FeedsByBackend({KAFKA: kafka, IN_MEMORY: memory})

    feed = both.open(config("in-memory:orders"), lambda _: None)

    assert isinstance(feed, MemoryFeed)
    assert ([], [feed]) == (kafka.feeds, memory.feeds)
    with pytest.raises(TopicMissing):
        both.open(config("jetstream:orders"), lambda _: None)


async def test_every_backend_is_asked_for_its_backlog() -> None:
    kafka, memory = feeds(3), feeds(4)
    both = FeedsByBackend({KAFKA: kafka, IN_MEMORY: memory, JETSTREAM: feeds(None)})

    found = await both.backlog({"a": ["a"], "in-memory:b": ["in-memory:b"]})

    assert (3, 4) == (found.exactly("a"), found.exactly("in-memory:b"))
    assert (["a"], ["in-memory:b"]) == (kafka.asked, memory.asked)


async def test_a_backend_that_does_not_answer_is_unknown() -> None:
    both = FeedsByBackend({KAFKA: feeds(3), JETSTREAM: feeds(None)})

    found = await both.backlog({"a": ["a"], "jetstream:b": ["jetstream:b"]})

    assert 3 == found.exactly("a")
    assert found.exactly("jetstream:b") is None
    assert {"jetstream:b": 1} == found.unknown


async def test_it_is_an_error_if_no_backend_answers() -> None:
    both = FeedsByBackend({KAFKA: feeds(None)})

    with pytest.raises(LogUnavailable, match="nothing answers"):
        await both.backlog({"a": ["a"]})
