"""A dispatcher is frozen between two commits, and another takes over its partitions: when it
continues, it sends nothing of them and moves no offsets back, of any subscription.
"""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.domain.record import Partition
from tests.support.headrace_under_test import HeadraceUnderTest, group_of, headrace_in
from tests.support.ledger import numbered
from tests.support.manifests import broker, broker_config, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
NAMESPACE, BROKER, TOPIC = "default", "orders", "knative-broker-default-orders"
PARTITIONS = 6
SINKS = ("fast", "slow", "later")
SLOW_SECONDS = 0.05
"""Of a subscriber, so that requests are under way and offsets not committed at any time."""
BEING_WRITTEN_SECONDS = 1.0
"""How long after SIGCONT a request may still arrive that was written at SIGSTOP."""


class Sender(threading.Thread):
    """Sends events until it is stopped."""

    def __init__(self, system: HeadraceUnderTest) -> None:
        super().__init__(daemon=True)
        self._system = system
        self._stopped = threading.Event()
        self.accepted = 0

    def run(self) -> None:
        """As said."""
        while not self._stopped.wait(0.002):
            event = numbered(self._system.seed, "w00", self.accepted, size=64)
            assert self._system.send(event, f"/{NAMESPACE}/{BROKER}") == 202
            self.accepted += 1

    def stop(self) -> int:
        """Return how many events were accepted."""
        self._stopped.set()
        self.join(30.0)
        return self.accepted


class CommittedOffsets(threading.Thread):
    """Reads the offsets of some groups all the time: whether one was ever lower than before."""

    def __init__(self, bootstrap_servers: str, groups: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        self._groups = groups
        self._stopped = threading.Event()
        self.present: dict[tuple[str, int], int] = {}
        """By sink and partition."""
        self.moved_back: list[str] = []

    def run(self) -> None:
        """As said."""
        while not self._stopped.wait(0.01):
            for sink, group in self._groups.items():
                self._read(sink, group)

    def _read(self, sink: str, group: str) -> None:
        wanted = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        [answer] = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, wanted)], request_timeout=10.0
        ).values()
        for each in answer.result(15.0).topic_partitions or ():
            before = self.present.get((sink, each.partition), 0)
            if each.offset < before:
                self.moved_back.append(f"{sink} {each.partition}: {before} to {each.offset}")
            self.present[sink, each.partition] = each.offset

    def stop(self) -> None:
        """As said."""
        self._stopped.set()
        self.join(30.0)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_dispatcher_that_was_frozen_leaves_the_others_alone(
    tmp_path: Path, protocol: str
) -> None:
    environment = {"HEADRACE_KAFKA_GROUP_PROTOCOL": protocol}
    with headrace_in(tmp_path, dispatchers=2, env=environment) as system:
        system.sinks.script("slow", Script(delay_seconds=SLOW_SECONDS))
        triggers = {
            sink: trigger(NAMESPACE, sink, system.sinks.url(sink), broker=BROKER) for sink in SINKS
        }
        system.establish(broker_config(NAMESPACE, "six", partitions=PARTITIONS))
        system.establish(broker(NAMESPACE, BROKER, config="six"))
        system.establish(*triggers.values())
        groups = {sink: group_of(system.get(each) or each) for sink, each in triggers.items()}
        offsets = CommittedOffsets(system.log.bootstrap_servers, groups)

        def delivered(count: int) -> bool:
            return all(system.sinks.events(sink) >= count for sink in SINKS)

        def is_committed() -> bool:
            ends = system.log.ends([TOPIC])
            return all(
                offset == ends[Partition(TOPIC, number)]
                for (_, number), offset in offsets.present.items()
            )

        offsets.start()
        sender = Sender(system)
        sender.start()
        wait_until(lambda: delivered(500), 60.0, "events before the freeze", every=0.1)
        frozen = system.services["dispatcher-0"]
        frozen.freeze()
        try:
            sent = sender.accepted + 500
            wait_until(lambda: sender.accepted >= sent, 60.0, "events meanwhile", every=0.1)
            sent = sender.stop()
            wait_until(lambda: delivered(sent), 60.0, "the other one delivers all", every=0.1)
            wait_until(is_committed, 30.0, "the other one commits all", every=0.1)
            before = {(each.sink, each.event) for each in system.sinks.arrivals()}
        finally:
            frozen.cont()
        late = time.monotonic() + BEING_WRITTEN_SECONDS
        system.wait_until_ready("dispatcher-0")
        again = Sender(system)
        again.accepted = sent
        again.start()
        wait_until(lambda: again.accepted >= sent + 500, 60.0, "events afterwards", every=0.1)
        total = again.stop()
        wait_until(lambda: delivered(total), 60.0, "both deliver all", every=0.1)
        wait_until(is_committed, 30.0, "both commit all", every=0.1)
        offsets.stop()
        assert offsets.moved_back == []
        repeated = [
            each
            for each in system.sinks.arrivals()
            if each.start > late and (each.sink, each.event) in before
        ]
        assert repeated == []
