"""How records of Kafka are sent: their order, what is tried again, and what a rebalance leaves."""

import asyncio
from collections.abc import Callable, Collection, Mapping

import pytest

from headrace.domain.backoff import Backoff
from headrace.domain.event import Event, InvalidEvent
from headrace.domain.filters import Filter
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord
from headrace_sources.adapters import kafka_delivery
from headrace_sources.adapters.kafka_delivery import Delivery
from headrace_sources.adapters.kafka_events import KeyType, RecordReader
from headrace_sources.source import NotDelivered

REFUSED = NotDelivered("status 503")


class ManualEmit:
    """An `Emit` whose results the test gives."""

    def __init__(self) -> None:
        self.started: dict[str, Callable[[Exception | None], None]] = {}
        """By subject, in order."""
        self.given_up: list[str] = []
        self.immediate = False
        """Whether an event is taken within the call."""
        self.attributes_max = 100

    async def __call__(self, event: Event) -> None:
        raise NotImplementedError

    def start(self, event: Event, done: Callable[[Exception | None], None]) -> Callable[[], None]:
        """See `Emit`."""
        if len(event.attributes) > self.attributes_max:
            raise InvalidEvent(None, "has too many attributes")
        subject = str(event.attributes["subject"]).removeprefix("partition:")
        if self.immediate:
            done(None)
            return lambda: None
        self.started[subject] = done

        def give_up() -> None:
            del self.started[subject]
            self.given_up.append(subject)

        return give_up

    def finish(self, subject: str, error: Exception | None = None) -> None:
        """Report the result of an event."""
        self.started.pop(subject)(error)


class RecordedFeed:
    """A `Feed` that records what is done."""

    def __init__(self) -> None:
        self.finished: list[int] = []

    def start(self, listener: FeedListener) -> None: ...
    def done(self, record: StoredRecord) -> None:
        """See the port."""
        self.finished.append(record.offset)

    def annotate(self, record: StoredRecord, note: str | None) -> None: ...
    def pause(self, partition: Partition) -> None: ...
    def resume(self, partition: Partition) -> None: ...
    def change_filter(self, filter: Filter) -> None: ...
    def verify_membership(self) -> None: ...
    @property
    def skipped(self) -> int:
        """See the port."""
        return 0

    def lag(self) -> Mapping[Partition, Lag]:
        """See the port."""
        return {}

    async def stop(self, *, leave: bool = False) -> None: ...


class Sending:
    """A delivery with its emit and feed."""

    def __init__(self, *, ordered: bool = True) -> None:
        self.emit, self.feed = ManualEmit(), RecordedFeed()
        self.delivery = Delivery(self.emit, RecordReader("/s", KeyType.STRING), ordered=ordered)
        self.delivery.feed = self.feed
        self._drained: list[bool] = []

    def read(self, *offsets: int, key: bytes | None = b"k", partition: int = 0) -> None:
        """Records arrive."""
        self.delivery.on_records(
            [StoredRecord("t", partition, each, 0, key, b"", ()) for each in offsets]
        )

    def revoke(self, *partitions: int) -> None:
        """These partitions are to be given back."""

        self.delivery.on_revoked(
            [Partition("t", each) for each in partitions], lambda: self._drained.append(True)
        )

    def lose(self, *partitions: int) -> None:
        """They belong to another member."""
        self.delivery.on_lost([Partition("t", each) for each in partitions])

    def drained(self) -> int:
        """How often a revocation was reported as drained."""
        return len(self._drained)

    @property
    def started(self) -> Collection[str]:
        """What is on its way, as partition#offset."""
        return list(self.emit.started)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt follows with the next turns of the loop."""
    monkeypatch.setattr(kafka_delivery, "BACKOFF", Backoff((0.0,)))


async def until(reached: Callable[[], bool]) -> None:
    """Let the loop run."""
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0)


async def test_records_with_one_key_are_sent_one_after_the_other() -> None:
    """Those of other keys do not wait for them."""
    sending = Sending()
    sending.read(0, 1)
    sending.read(2, key=b"other")
    assert sending.started == ["0#0", "0#2"]
    sending.emit.finish("0#0")
    assert sending.started == ["0#2", "0#1"]
    sending.emit.finish("0#1")
    assert sending.feed.finished == [0, 1]


async def test_records_without_key_are_sequences_of_their_partitions() -> None:
    """The same key in two partitions is none sequence either."""
    sending = Sending()
    sending.read(0, 1, key=None)
    sending.read(0, 1, key=None, partition=1)
    assert sending.started == ["0#0", "1#0"]


async def test_without_order_all_are_sent() -> None:
    """And done in any order."""
    sending = Sending(ordered=False)
    sending.read(0, 1, 2)
    assert sending.started == ["0#0", "0#1", "0#2"]
    sending.emit.finish("0#2")
    assert sending.feed.finished == [2]


@pytest.mark.parametrize("ordered", [True, False])
async def test_what_is_not_delivered_is_tried_again(ordered: bool) -> None:
    """It is never skipped; with order, what is behind it waits."""
    sending = Sending(ordered=ordered)
    sending.read(0, 1)
    for _ in range(3):
        sending.emit.finish("0#0", REFUSED)
        assert not sending.feed.finished
        await until(lambda: "0#0" in sending.started)
        assert ("0#1" in sending.started) is not ordered
    sending.emit.finish("0#0")
    assert sending.feed.finished == [0]
    assert "0#1" in sending.started


async def test_ten_thousand_that_are_taken_at_once() -> None:
    """No recursion."""
    sending = Sending()
    sending.emit.immediate = True
    sending.read(*range(10_000))
    assert sending.feed.finished == list(range(10_000))


async def test_an_event_that_overrides_make_invalid_is_sent_without_extensions() -> None:
    """A record is not lost for its headers."""
    sending = Sending()
    sending.emit.attributes_max = 7
    sending.read(0)
    sending.emit.finish("0#0")
    assert sending.feed.finished == [0]


async def test_revoked_partitions_are_drained() -> None:
    """What is on its way is awaited, what waits is left to the next owner."""
    sending = Sending()
    sending.read(0, 1)
    sending.read(0, partition=1)
    sending.revoke(0)
    assert not sending.drained()
    sending.emit.finish("0#0")
    assert sending.drained() == 1
    assert sending.feed.finished == [0]
    assert sending.started == ["1#0"]


async def test_what_waits_for_another_attempt_does_not_hold_up_a_rebalance() -> None:
    """Nor does what fails while it is drained."""
    sending = Sending(ordered=False)
    sending.read(0, 1)
    sending.emit.finish("0#0", REFUSED)
    sending.revoke(0)
    assert not sending.drained()
    sending.emit.finish("0#1", REFUSED)
    assert sending.drained() == 1
    await asyncio.sleep(0.01)
    assert not sending.started
    assert not sending.feed.finished


async def test_lost_partitions_are_given_up() -> None:
    """Also those that could not be drained in time. The records may be read again."""
    sending = Sending()
    sending.read(0)
    sending.read(0, partition=1)
    sending.revoke(0)
    sending.lose(0, 1)
    assert sending.emit.given_up == ["0#0", "1#0"]
    sending.read(0)
    sending.emit.finish("0#0")
    assert sending.feed.finished == [0]


async def test_nothing_is_started_while_the_membership_is_unconfirmed() -> None:
    """It is once the group has confirmed it; what was revoked meanwhile is not."""
    sending = Sending()
    sending.delivery.on_membership_unconfirmed(True)
    sending.read(0)
    sending.read(0, partition=1)
    assert not sending.started
    sending.revoke(1)
    assert sending.drained() == 1
    sending.delivery.on_membership_unconfirmed(False)
    assert sending.started == ["0#0"]
