"""One process of the sources service for each case, and how its work is measured."""

import base64
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from tests.support.headrace_under_test import HeadraceUnderTest, lasting_port
from tests.support.manifests import Manifest, broker
from tests.support.wait_until import wait_until

from bench.load import Meter
from bench.sources.figures import SourceFigures

NAMESPACE = "bench"
PROCESS = "sources-0"
WARM_SHARE = 0.05
"""Of the events of a case, those before the measurement: connections are made, modules loaded."""
FIRST_EVENT_SECONDS = 60.0
DRAIN_SECONDS = 180.0
POLL_SECONDS = 0.05


class Unavailable(Exception):
    """The outside system of a case cannot run here; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much each case does."""

    records: int = 200_000
    """Of the topic that a KafkaSource reads."""
    seconds: int = 8
    """Of requests to a webhook, of a schedule, of a timer."""
    warm_seconds: int = 2
    camel_warm_seconds: int = 6
    """The Java virtual machine compiles what runs often, which costs more than the events."""
    sqs_messages: int = 1_500
    """A multiple of 10."""
    pubsub_messages: int = 800
    """For each of `pubsub_sources`: pstest sends one message to a stream every 10 ms."""
    pubsub_sources: int = 10
    objects: int = 2_000
    pings: int = 100
    """PingSources, each with an event every second."""
    programs: int = 10
    """ContainerSources."""


QUICK = Sizes(
    records=30_000,
    seconds=2,
    warm_seconds=1,
    camel_warm_seconds=2,
    sqs_messages=300,
    pubsub_messages=200,
    objects=600,
    pings=30,
    programs=5,
)


class Stored:
    """How many records are in a topic, asked again and again over one connection."""

    def __init__(self, servers: str, topic: str) -> None:
        self._count = 0
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "bench-look", "log_level": 0}
        )
        found = self._consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
        self._partitions = [TopicPartition(topic, each) for each in found]

    def count(self) -> int:
        """The records now; those of the call before while Kafka does not answer."""
        with contextlib.suppress(KafkaException):
            self._count = sum(
                self._consumer.get_watermark_offsets(each, timeout=10.0)[1]
                for each in self._partitions
            )
        return self._count

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


class Interval:
    """From now on: events that arrive in a topic, and what the process uses meanwhile."""

    def __init__(self, meter: Meter, stored: Stored) -> None:
        self._meter, self._stored = meter, stored
        self._first, self._began = stored.count(), time.monotonic()

    def end(self, outside: str) -> SourceFigures:
        """The figures until now."""
        cpu, cpus = self._meter.cpu_seconds(), self._meter.share()
        events, seconds = self._stored.count() - self._first, time.monotonic() - self._began
        return SourceFigures(
            events=events,
            per_second=events / seconds,
            cpu_us=cpu / events * 1e6 if events else math.nan,
            cpus=cpus,
            rss_mib=self._meter.rss_mib(),
            outside=outside,
        )


class Service:
    """The sources service of an installation: `running` gives a case a process of its own."""

    def __init__(self, system: HeadraceUnderTest, sizes: Sizes) -> None:
        self.system, self.sizes = system, sizes
        self.port = lasting_port()
        """Where webhooks arrive."""
        self._applied: list[Manifest] = []

    @property
    def servers(self) -> str:
        """The Kafka of the installation."""
        return self.system.log.bootstrap_servers

    @contextlib.contextmanager
    def running(self, env: Mapping[str, str] | None = None) -> Iterator[None]:
        """Run a process for the block. At its end the sources of the case are deleted, while their
        outside system still runs.
        """
        options = ["--port", str(self.port), "--instance", "s", *self.system.options_of_sources()]
        if PROCESS in self.system.services:
            self.system.run(PROCESS, env=env)
        else:
            self.system.run_with(PROCESS, options, env=env)
        try:
            self.system.wait_until_ready(PROCESS)
            yield
            self.system.delete(*self._applied)
        finally:
            self._applied.clear()
            self.system.services[PROCESS].stop()

    def apply(self, *sources: Manifest) -> None:
        """Apply sources, which are deleted at the end of the case."""
        self._applied += sources
        self.system.apply(*sources)

    def establish(self, *sources: Manifest) -> None:
        """Apply sources, and wait until they are Ready."""
        self.apply(*sources)
        self.system.wait_ready(*sources)

    def meter(self) -> Meter:
        """What the process uses from now on."""
        return Meter(self.system.services[PROCESS].pid)

    def broker(self, name: str) -> str:
        """Create a Broker; its topic."""
        self.system.establish(broker(NAMESPACE, name))
        return f"knative-broker-{NAMESPACE}-{name}"

    def secret(self, name: str, **values: str) -> None:
        """Apply a Secret; `__` in a name stands for a dot."""
        data = {
            key.replace("__", "."): base64.b64encode(value.encode()).decode()
            for key, value in values.items()
        }
        metadata = {"name": name, "namespace": NAMESPACE}
        self.system.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        )

    def drain(
        self,
        topic: str,
        events: int,
        *,
        outside: str,
        send: Callable[[], None] = lambda: None,
    ) -> SourceFigures:
        """Measure until the topic has so many events, which the outside system has already, or
        `send` gives to it.
        """
        with (
            contextlib.closing(Stored(self.servers, topic)) as stored,
            ThreadPoolExecutor(1) as own,
        ):
            sending = own.submit(send)
            _reach(stored, max(1, int(events * WARM_SHARE)), FIRST_EVENT_SECONDS, sending)
            interval = Interval(self.meter(), stored)
            _reach(stored, events, DRAIN_SECONDS, sending)
            return interval.end(outside)

    def watch(self, topic: str, *, warm_seconds: int, outside: str) -> SourceFigures:
        """Measure for some seconds a source that sends all the time."""
        with contextlib.closing(Stored(self.servers, topic)) as stored:
            wait_until(lambda: stored.count() > 0, FIRST_EVENT_SECONDS, "the first event")
            time.sleep(warm_seconds)
            interval = Interval(self.meter(), stored)
            time.sleep(self.sizes.seconds)
            return interval.end(outside)


def source(kind: str, version: str, name: str, **spec: Any) -> Manifest:
    """A source whose sink is the Broker of its name."""
    return source_to(name, kind, version, name, **spec)


def source_to(broker: str, kind: str, version: str, name: str, **spec: Any) -> Manifest:
    """A source whose sink is a Broker."""
    sink = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": broker}}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"sink": sink, **spec},
    }


def _reach(stored: Stored, events: int, seconds: float, sending: "Future[None]") -> None:
    def reached() -> bool:
        if sending.done():
            sending.result()  # An event that was not sent never arrives.
        return stored.count() >= events

    wait_until(reached, seconds, f"{events} events are stored", every=POLL_SECONDS)
