"""`python -m bench.sources`: 1 KiB events from outside systems into a Broker, by one process of the
sources service on one machine.

A KafkaSource reads a topic that is full when it starts, of records that are no CloudEvents.
Requests to a WebhookSource are sent by wrk. CPU per event is user and system time of the process of
the sources service; the Broker's topic is in the same Kafka, and nothing reads it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.support.headrace_under_test import HeadraceUnderTest, kafka_for_headrace, lasting_port
from tests.support.manifests import broker
from tests.support.wait_until import wait_until

from bench.load import EVENT_BYTES, KEYS, Meter, wrk

NAMESPACE = "bench"
PARTITIONS = 10
OUTSIDE = "outside"
DRAIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One kind of source."""

    kind: str
    events: int
    per_second: float
    cpu_us: float
    """CPU microseconds of the sources service per event."""
    rss_mib: float
    """Resident memory of its process at the end."""


class Stored:
    """How many records are in a topic, asked again and again over one connection."""

    def __init__(self, servers: str, topic: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "bench-look", "log_level": 0}
        )
        found = self._consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
        self._partitions = [TopicPartition(topic, each) for each in found]

    def count(self) -> int:
        """The records now."""
        return sum(
            self._consumer.get_watermark_offsets(each, timeout=10.0)[1] for each in self._partitions
        )

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def fill(servers: str, events: int) -> None:
    """Create the outside topic and write these records."""
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(OUTSIDE, PARTITIONS, 1)]).values():
        future.result(20.0)
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.kbytes": 1 << 20}
    )
    data = b"x" * EVENT_BYTES
    for number in range(events):
        producer.produce(OUTSIDE, data, key=f"k{number % KEYS}")
        if not number % 10_000:
            producer.flush(60.0)
    if producer.flush(120.0):
        raise RuntimeError("the outside topic was not filled")


def source(kind: str, version: str, name: str, **spec: Any) -> dict[str, Any]:
    """A source whose sink is the Broker of its name."""
    sink = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"sink": sink, **spec},
    }


def measure_kafka(system: HeadraceUnderTest, servers: str, events: int) -> Measured:
    """From the start of the source to its last event in the Broker's topic."""
    fill(servers, events)
    topic = f"knative-broker-{NAMESPACE}-kafka"
    system.establish(broker(NAMESPACE, "kafka"))
    meter = Meter(system.services["sources-0"].pid)
    system.apply(
        source(
            "KafkaSource",
            "sources.knative.dev/v1beta1",
            "kafka",
            bootstrapServers=[servers],
            topics=[OUTSIDE],
            consumerGroup="bench",
            initialOffset="earliest",
        )
    )
    look = Stored(servers, topic)
    wait_until(lambda: look.count() > 0, 60.0, "the source has begun", every=0.02)
    began, first = time.monotonic(), look.count()
    wait_until(lambda: look.count() >= events, DRAIN_SECONDS, f"{events} events", every=0.1)
    seconds = time.monotonic() - began
    look.close()
    return Measured(
        kind="KafkaSource",
        events=events,
        per_second=(events - first) / seconds,
        cpu_us=meter.micros_per(events),
        rss_mib=meter.rss_mib(),
    )


def measure_webhook(system: HeadraceUnderTest, port: int, seconds: int) -> Measured:
    """Requests with 64 connections, each answered when its event is stored."""
    hook = source("WebhookSource", "sources.headrace.dev/v1alpha1", "webhook")
    system.establish(broker(NAMESPACE, "webhook"), hook)
    path = f"/{NAMESPACE}/webhook"
    wrk(port, path, seconds=2)
    meter = Meter(system.services["sources-0"].pid)
    sent = wrk(port, path, seconds=seconds)
    if sent.refused or sent.errors:
        raise RuntimeError(f"{sent.refused} requests were refused, {sent.errors} failed")
    return Measured(
        kind="WebhookSource",
        events=sent.requests,
        per_second=sent.rate,
        cpu_us=meter.micros_per(sent.requests),
        rss_mib=meter.rss_mib(),
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="headrace-bench-", ignore_cleanup_errors=True
    ) as temporary:
        directory = Path(temporary)
        with kafka_for_headrace(directory) as kafka:
            servers, port = kafka.bootstrap_servers, lasting_port()
            system = HeadraceUnderTest(servers, directory, env={"HEADRACE_LOG_LEVEL": "warning"})
            cases: list[Callable[[], Measured]] = [
                lambda: measure_kafka(system, servers, options.events),
                lambda: measure_webhook(system, port, options.seconds),
            ]
            try:
                system.start()
                given = ["--port", str(port), "--instance", "s", *system.options_of_sources()]
                system.run_with("sources-0", given)
                system.wait_until_ready("sources-0")
                for case in cases:
                    print(json.dumps(asdict(case())), flush=True)
            except BaseException:
                print(system.processes.report(), file=sys.stderr)
                raise
            finally:
                system.close()


if __name__ == "__main__":
    main()
