"""The Kafka store in difficult cases: unknown outcomes, batches of writes, and foreign records in
its log.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.adapters.kafka.store.transactional_log import TransactionalLog
from headrace.domain.errors import LogUnavailable, OutcomeUnknown
from headrace.domain.record import StoredRecord
from headrace.resources.kinds import BROKER
from headrace.resources.resource import AlreadyExists, Resource
from headrace.runtime.clock import SystemClock
from headrace_controller.reconcile.kinds import RECONCILERS
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka


def _broker(name: str) -> Resource:
    return Resource(
        BROKER,
        {
            "apiVersion": BROKER.api_version,
            "kind": "Broker",
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {},
        },
    )


class ForgetfulLog(TransactionalLog):
    """A log whose next answer is lost, after or before the group was stored."""

    loses: str = ""

    def store(self, records: Sequence[tuple[str, bytes | None]]) -> list[int]:
        """Store the records, and lose the answer if `loses` is set."""
        loses, self.loses = self.loses, ""
        if loses == "request":
            raise OutcomeUnknown("the request was lost on the way")
        offsets = super().store(records)
        if loses == "answer":
            raise OutcomeUnknown("the answer was lost on the way")
        return offsets


@pytest.fixture
def topic(kafka: KafkaUnderTest) -> str:
    """A separate resources topic for the test."""
    return kafka.create_topic("resources", config={"cleanup.policy": "compact"})


@pytest.fixture
async def store(kafka: KafkaUnderTest, topic: str) -> AsyncIterator[KafkaResourceStore]:
    """A store that is the writer, on a log that can lose answers."""
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    made = KafkaResourceStore(
        options, kinds=RECONCILERS.stored_kinds, clock=SystemClock(), holder="one", topic=topic
    )
    made._log = ForgetfulLog(options, topic, transactional_id=f"{topic}.writer")
    await made.start()
    await wait_until_async(lambda: made.epoch is not None, 15, "the store to write")
    yield made
    await made.stop()


def _lose(store: KafkaResourceStore, what: str) -> None:
    log = store._log
    assert isinstance(log, ForgetfulLog)
    log.loses = what


async def test_a_lost_answer_is_recovered(store: KafkaResourceStore) -> None:
    """The group was stored: the caller gets the answer, and the term continues."""
    epoch = store.epoch
    _lose(store, "answer")
    made = await store.create(_broker("a"))
    assert made == store.get(BROKER, "ns", "a")
    assert epoch == store.epoch
    with pytest.raises(AlreadyExists):
        await store.create(_broker("a"))


async def test_a_lost_request_is_detected_and_reported(store: KafkaResourceStore) -> None:
    """Nothing was stored, and the caller may try again."""
    _lose(store, "request")
    with pytest.raises(LogUnavailable, match="nothing was stored"):
        await store.create(_broker("a"))
    assert [] == list(store.list(BROKER))
    await store.create(_broker("a"))


async def test_writes_that_wait_together_are_one_group(store: KafkaResourceStore) -> None:
    """Their records are consecutive, with one transaction marker after all of them."""
    made = await asyncio.gather(*(store.create(_broker(f"b{n}")) for n in range(50)))
    versions = sorted(int(each.version) for each in made)
    assert len(set(versions)) == 50
    assert versions[-1] - versions[0] < 55


async def test_records_of_this_process_are_not_parsed_again(store: KafkaResourceStore) -> None:
    """They were applied when they were stored. With a thousand Triggers, parsing them took as long
    as storing them.
    """
    version = int((await store.create(_broker("a"))).version)
    with capture_logs() as logs:
        store._apply([_unreadable("a", version)])
        assert [] == logs
        store._apply([_unreadable("a", version + 100)])
        assert ["resource_record_not_readable"] == [each["event"] for each in logs]


def _unreadable(name: str, offset: int) -> StoredRecord:
    key = f"eventing.knative.dev/brokers/ns/{name}".encode()
    return StoredRecord("resources", 0, offset, 0, key, b"{", [])


async def test_what_is_not_ours_in_the_log_is_passed_over(
    kafka: KafkaUnderTest, topic: str, store: KafkaResourceStore
) -> None:
    """A foreign or damaged record, or one of a kind of a newer version, does not hide the records
    after it.
    """
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for key, value in (
        ("nonsense", b"x"),
        ("eventing.knative.dev/brokers/ns/broken", b"{"),
        ("new.dev/things/ns/t", b"{}"),
    ):
        producer.produce(topic, key=key, value=value)
    producer.flush(10)
    made = await store.create(_broker("a"))
    other = KafkaResourceStore(
        KafkaOptions(bootstrap_servers=kafka.bootstrap_servers),
        kinds=RECONCILERS.stored_kinds,
        clock=SystemClock(),
        holder="two",
        topic=topic,
    )
    await other.start()
    try:
        assert [made] == list(other.list(BROKER))
    finally:
        await other.stop()
