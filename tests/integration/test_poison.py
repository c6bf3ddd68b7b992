"""A record that blocks the event loop of a real dispatcher process becomes a dead letter, and the
others are delivered.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.control.routing import KafkaRoutingWriter
from headrace.adapters.kafka.options import KafkaOptions
from headrace.codec import delivery_state, routing
from headrace.domain.control_topics import INSTANCES_TOPIC, ROUTING_TOPIC
from headrace.domain.delivery import DeliveryPolicy
from headrace.domain.routing import DeliveryOrder, Destination, Subscription, route_key
from headrace.runtime.process import ExitCode
from headrace_dispatcher.poison_tracker import DEATHS_MAX
from tests.support.dispatcher_harness import KafkaDispatcherHarness, kafka_dispatcher_harness
from tests.support.kafka import KafkaUnderTest, free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.subscriber import ReceivedRequest, ok, serving, status
from tests.support.wait_until import wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
LIMIT = "1.5"


@dataclass
class Scenario:
    """A subscription in the routing table, and the dispatcher process that serves it."""

    harness: KafkaDispatcherHarness
    processes: Processes
    state: Path
    process: ServiceProcess | None = None

    def start(
        self, poison: str = "", *, how: str = "compute", limit: str = LIMIT
    ) -> ServiceProcess:
        """Start the dispatcher, the first time or again; an event of this name blocks its loop."""
        self.process = self.processes.headrace(
            "dispatcher",
            "--bootstrap-servers",
            self.harness.kafka.bootstrap_servers,
            "--management-port",
            str(free_port()),
            "--instance",
            f"poison-{self.state.name}",
            env={
                "HEADRACE_TEST": "1",
                "HEADRACE_STALL_ON": poison,
                "HEADRACE_STALL_HOW": how,
                "HEADRACE_DISPATCHER_WATCHDOG_SECONDS": limit,
                "HEADRACE_DISPATCHER_STATE_DIRECTORY": str(self.state),
                "HEADRACE_LOG_FORMAT": "json",
            },
        )
        return self.process

    async def dies(self, poison: str, *, how: str = "compute") -> None:
        """Wait until the watchdog has ended the dispatcher."""
        process = self.start(poison, how=how)
        await wait_until_async(
            lambda: not process.running, 60, "the watchdog ends the dispatcher", every=0.1
        )
        assert process.returncode == ExitCode.STALLED, process.tail()


@asynccontextmanager
async def scene(
    kafka: KafkaUnderTest,
    processes: Processes,
    tmp_path: Path,
    subscription: Subscription,
    harness: KafkaDispatcherHarness,
) -> AsyncIterator[Scenario]:
    """A scenario whose routing record is removed at the end."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    wanted = [
        NewTopic(name, num_partitions=1, replication_factor=1, config={"cleanup.policy": "compact"})
        for name in (ROUTING_TOPIC, INSTANCES_TOPIC)
    ]
    for made in admin.create_topics(wanted).values():
        made.exception(20)  # exists already
    writer = KafkaRoutingWriter(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    await writer.write({route_key(subscription): routing.write(subscription)})
    state = tmp_path / uuid.uuid4().hex[:8]
    started = Scenario(harness, processes, state)
    try:
        yield started
    finally:
        if started.process is not None:
            started.process.kill()
        await writer.write({route_key(subscription): None})
        await writer.stop()


def ids(requests: Sequence[ReceivedRequest]) -> set[str]:
    """Return the ids of the events that a subscriber received."""
    return {request.headers["ce-id"] for request in requests}


@pytest.mark.parametrize("how", ["compute", "wait"])
@pytest.mark.parametrize("order", [DeliveryOrder.UNORDERED, DeliveryOrder.ORDERED])
async def test_an_event_that_blocks_the_loop_is_dead_lettered_and_the_others_are_delivered(
    kafka: KafkaUnderTest, processes: Processes, tmp_path: Path, how: str, order: DeliveryOrder
) -> None:
    """It becomes a dead letter after three crashes, not fewer. No event before or after it is
    lost.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(subscriber.url, order=order)
        async with scene(kafka, processes, tmp_path, subscription, harness) as stage:
            others = {f"before-{number}" for number in range(3)} | {
                f"after-{number}" for number in range(3)
            }
            await harness.publish(
                subscription.topic, *sorted(each for each in others if each.startswith("before"))
            )
            await harness.publish(subscription.topic, "poison", value=b'{"kept": true}')
            await harness.publish(
                subscription.topic, *sorted(each for each in others if each.startswith("after"))
            )
            for _ in range(DEATHS_MAX + 1):
                assert not await harness.read(subscription.dead_topic, 1, timeout=0.5)
                await stage.dies("poison", how=how)
            stage.start("poison", how=how)
            (dead_letter,) = await harness.read(subscription.dead_topic, 1, timeout=60)
            await wait_until_async(
                lambda: ids(subscriber.requests) >= others, 30, "the others are delivered"
            )
            await wait_until_async(
                lambda: harness.committed(subscription) == [7], 30, "all are committed", every=0.5
            )
            headers = dict(dead_letter.headers)
            assert delivery_state.read(dead_letter.headers).reason.startswith(
                "poison: the event loop stalled"
            )
            assert delivery_state.read(dead_letter.headers).origin == f"{subscription.topic}/0/3"
            assert (headers["ce_id"], dead_letter.value) == (b"poison", b'{"kept": true}')
            assert headers["ce_knativeerrordest"] == subscriber.url.encode()
            assert "poison" not in ids(subscriber.requests)
            assert stage.process is not None
            assert stage.process.running


async def test_an_event_on_which_the_reader_of_the_channel_stalls_is_examined_by_its_subscription(
    kafka: KafkaUnderTest, processes: Processes, tmp_path: Path
) -> None:
    """One crash is enough: what stalls the loop for one subscription must not keep the event from
    the others.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(subscriber.url)
        async with scene(kafka, processes, tmp_path, subscription, harness) as stage:
            await harness.publish(subscription.topic, "before", "poison", "after")
            await stage.dies("read poison")
            stage.start("read poison")
            await wait_until_async(
                lambda: ids(subscriber.requests) == {"before", "poison", "after"},
                60,
                "all are delivered",
            )
            assert not await harness.read(subscription.dead_topic, 1, timeout=0.5)


async def test_a_killed_process_blames_no_record(
    kafka: KafkaUnderTest, processes: Processes, tmp_path: Path
) -> None:
    """The dispatcher gets SIGKILL while the same record is in flight, as often as the watchdog
    would have needed. Then the event is delivered.
    """
    async with kafka_dispatcher_harness(kafka) as harness, serving(ok()) as subscriber:
        subscription = harness.subscription(subscriber.url)
        async with scene(kafka, processes, tmp_path, subscription, harness) as stage:
            await harness.publish(subscription.topic, "good")
            note = stage.state / "0.note"
            for _ in range(DEATHS_MAX + 2):
                process = stage.start("good", how="wait", limit="300")
                await wait_until_async(
                    lambda: note.exists() and any(note.read_bytes()), 60, "the record is in flight"
                )
                process.kill()
            stage.start()
            await wait_until_async(
                lambda: "good" in ids(subscriber.requests), 60, "the event is delivered"
            )
            assert not await harness.read(subscription.dead_topic, 1, timeout=0.5)


async def test_a_retry_that_blocks_the_loop_is_dead_lettered(
    kafka: KafkaUnderTest, processes: Processes, tmp_path: Path
) -> None:
    """Records in the retry topic can be poison too."""
    async with kafka_dispatcher_harness(kafka) as harness, serving(status(503)) as subscriber:
        subscription = harness.subscription(
            subscriber.url,
            delivery=DeliveryPolicy(retry=3, delay_seconds=0.05, timeout_seconds=5.0),
        )
        async with scene(kafka, processes, tmp_path, subscription, harness) as stage:
            await harness.publish(subscription.topic, "bad")
            for _ in range(DEATHS_MAX + 1):
                await stage.dies("retry bad")
            stage.start("retry bad")
            (dead_letter,) = await harness.read(subscription.dead_topic, 1, timeout=60)
            assert delivery_state.read(dead_letter.headers).reason.startswith("poison: ")


async def test_a_dead_letter_that_blocks_the_loop_stays_and_the_next_is_posted(
    kafka: KafkaUnderTest, processes: Processes, tmp_path: Path
) -> None:
    """The dead letter is in its topic already; it is only not sent to the sink."""
    async with (
        kafka_dispatcher_harness(kafka) as harness,
        serving(status(400)) as subscriber,
        serving(ok()) as sink,
    ):
        subscription = harness.subscription(
            subscriber.url, dead_letter_sink=Destination(url=sink.url)
        )
        async with scene(kafka, processes, tmp_path, subscription, harness) as stage:
            await harness.publish(subscription.topic, "bad")
            for _ in range(DEATHS_MAX + 1):
                await stage.dies("letter bad")
            process = stage.start("letter bad")
            await harness.publish(subscription.topic, "next")
            await wait_until_async(
                lambda: "next" in ids(sink.requests), 60, "the next letter is posted"
            )
            assert "dead_letter_not_posted" in process.output()
            assert "bad" not in ids(sink.requests)
