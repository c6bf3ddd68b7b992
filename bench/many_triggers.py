"""What the number of Triggers of a Broker costs, of which one wants an event, or all do, or some
subscribers do not answer: one dispatcher process, events of 1 KiB, 10 partitions.
"""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.manifests import ORDERED, Manifest, broker, delivery, trigger
from tests.support.report import table
from tests.support.wait_until import wait_until

from bench.load import Meter, write_backlog, wrk
from bench.sink import Deliveries, NginxSink

NAMESPACE = "bench"
ONE_OF_MANY = (1, 100, 1_000)
ALL_OF_MANY = (2, 10, 100)
"""Feeds that are equally fast have to be read for once, however few they are."""
ORDERED_OF_MANY = ((1, 1), (100, 1), (100, 100))
"""Triggers, and how many of them want each event, with deliveries ordered by key."""
HANGING = (1_000, 50)
"""Triggers, and how many of them want each event for a subscriber that never answers."""
HANGING_POLICY = delivery(retry=3, delay="PT0.2S", timeout="PT1S")
HANGING_PER_SECOND = 20.0
WANTED_TYPE = "bench.event"
"""That of the events which wrk sends and `write_backlog` writes."""
PER_SECOND = 1_300.0
DELIVERIES_PER_SECOND = 4_000.0
CONNECTIONS = 32
SETTLE_SECONDS = 5.0
READY_SECONDS = 600.0
DRAIN_SECONDS = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManySizes:
    """How much work each case does."""

    idle_seconds: float = 10.0
    warm_seconds: int = 5
    paced_seconds: int = 10
    deliveries: int = 100_000


QUICK = ManySizes(idle_seconds=3.0, warm_seconds=2, paced_seconds=4, deliveries=20_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyFigures:
    """One number of Triggers."""

    triggers: int
    matching: int
    ordered: bool = False
    """Whether deliveries are ordered by key."""
    hanging: int = 0
    """How many more of the Triggers want each event, and have a subscriber that never answers."""
    ready_seconds: float
    """From the first of them is applied to the last is Ready, without traffic."""
    idle_share: float
    """Of a core, of the dispatcher without traffic."""
    paced_us: float
    """CPU microseconds of the dispatcher per delivery, at a fixed rate."""
    paced_kafka_us: float
    """CPU microseconds of Kafka per event, at that rate."""
    full_per_second: float
    """Deliveries from a backlog at full speed."""
    full_us: float
    full_kafka_us: float
    rss_mib: float
    threads: int


class ManyTriggers:
    """Measures on one installation."""

    def __init__(
        self, system: HeadraceUnderTest, kafka_pid: int, sink: NginxSink, sizes: ManySizes
    ) -> None:
        self._system = system
        self._kafka_pid = kafka_pid
        self._sink = sink
        self._sizes = sizes

    def measure_hanging(self, count: int, hanging: int) -> ManyFigures:
        """One of `count` Triggers wants each event, and so do `hanging` others, whose subscriber
        never answers.
        """
        with _silent_subscriber() as url:
            return self.measure(count, 1, hanging=hanging, hanging_url=url)

    def measure(
        self,
        count: int,
        matching: int,
        *,
        ordered: bool = False,
        hanging: int = 0,
        hanging_url: str = "",
    ) -> ManyFigures:
        """`matching` of `count` Triggers want each event."""
        name = f"{'ordered' if ordered else 'many'}-{count}-{hanging or matching}"
        self._system.establish(broker(NAMESPACE, name, config="topics"))
        triggers = [
            self._trigger(name, number, number < matching, ordered=ordered)
            for number in range(count - hanging)
        ]
        triggers += [self._hanging(name, number, hanging_url) for number in range(hanging)]
        started = time.monotonic()
        self._system.apply(*triggers)
        self._system.wait_ready(*triggers, seconds=READY_SECONDS)
        ready = time.monotonic() - started
        time.sleep(SETTLE_SECONDS)
        idle = self._meter()
        time.sleep(self._sizes.idle_seconds)
        idle_share = idle.share()
        rate = HANGING_PER_SECOND if hanging else PER_SECOND
        paced_us, paced_kafka_us = self._paced(name, matching, rate)
        process = self._system.services["dispatcher-0"]
        full = (0.0, 0.0, 0.0)
        if not hanging:  # Nobody waits until those have failed.
            process.stop()
            full = self._full(name, matching)
        used = psutil.Process(process.pid)
        figures = ManyFigures(
            triggers=count,
            matching=matching,
            ordered=ordered,
            hanging=hanging,
            ready_seconds=ready,
            idle_share=idle_share,
            paced_us=paced_us,
            paced_kafka_us=paced_kafka_us,
            full_per_second=full[0],
            full_us=full[1],
            full_kafka_us=full[2],
            rss_mib=used.memory_info().rss / (1 << 20),
            threads=used.num_threads(),
        )
        self._system.delete(*triggers, seconds=READY_SECONDS)
        return figures

    def _trigger(self, name: str, number: int, wanted: bool, *, ordered: bool) -> Manifest:
        kind = WANTED_TYPE if wanted else f"other.{number}"
        return trigger(
            NAMESPACE,
            f"{name}-{number}",
            self._sink.url,
            broker=name,
            filters=[{"exact": {"type": kind}}],
            annotations=ORDERED if ordered else {},
        )

    def _hanging(self, name: str, number: int, url: str) -> Manifest:
        return trigger(
            NAMESPACE,
            f"{name}-hanging-{number}",
            url,
            broker=name,
            filters=[{"exact": {"type": WANTED_TYPE}}],
            delivery=HANGING_POLICY,
        )

    def _paced(self, name: str, matching: int, per_second: float) -> tuple[float, float]:
        path, port = f"/{NAMESPACE}/{name}", self._system.ingress_port
        rate = min(per_second, max(DELIVERIES_PER_SECOND / matching, 10.0))
        wrk(
            port,
            path,
            seconds=self._sizes.warm_seconds,
            connections=CONNECTIONS,
            per_second=rate,
        )
        time.sleep(1.0)
        deliveries, meter, kafka = Deliveries(self._sink), self._meter(), Meter(self._kafka_pid)
        sent = wrk(
            port,
            path,
            seconds=self._sizes.paced_seconds,
            connections=CONNECTIONS,
            per_second=rate,
        )
        events = sent.requests - sent.refused
        self._wait(deliveries, events * matching)
        return meter.micros_per(events * matching), kafka.micros_per(events)

    def _full(self, name: str, matching: int) -> tuple[float, float, float]:
        events = max(self._sizes.deliveries // matching, 200)
        topic = f"knative-broker-{NAMESPACE}-{name}"
        write_backlog(self._system.log.bootstrap_servers, topic, events)
        deliveries = Deliveries(self._sink)
        self._system.run("dispatcher-0")
        wait_until(lambda: deliveries.count() > 0, 60.0, "the first delivery", every=0.01)
        already, began = deliveries.count(), time.monotonic()
        meter, kafka = self._meter(), Meter(self._kafka_pid)
        self._wait(deliveries, events * matching)
        done = events * matching - already
        return (
            done / (time.monotonic() - began),
            meter.micros_per(done),
            kafka.micros_per(done) * matching,
        )

    def _wait(self, deliveries: Deliveries, count: int) -> None:
        wait_until(
            lambda: deliveries.count() >= count, DRAIN_SECONDS, f"{count} deliveries", every=0.02
        )

    def _meter(self) -> Meter:
        return Meter(self._system.services["dispatcher-0"].pid)


@contextlib.contextmanager
def _silent_subscriber() -> Iterator[str]:
    """Accepts connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=4_096) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def many_table(figures: Sequence[ManyFigures]) -> str:
    """A table, a row for each number of Triggers."""
    head = (
        "triggers",
        "matching",
        "order",
        "hanging",
        "Ready s",
        "idle %",
        "paced: dispatcher us",
        "kafka us",
        "full: deliveries/s",
        "dispatcher us",
        "kafka us",
        "MiB",
        "threads",
    )
    rows = [
        (
            f"{each.triggers:,}",
            f"{each.matching:,}",
            "by key" if each.ordered else "-",
            str(each.hanging or "-"),
            f"{each.ready_seconds:.1f}",
            f"{100 * each.idle_share:.1f}",
            f"{each.paced_us:.0f}",
            f"{each.paced_kafka_us:.0f}",
            f"{each.full_per_second:,.0f}" if each.full_us else "-",
            f"{each.full_us:.0f}" if each.full_us else "-",
            f"{each.full_kafka_us:.0f}" if each.full_us else "-",
            f"{each.rss_mib:.0f}",
            str(each.threads),
        )
        for each in figures
    ]
    return table(head, rows)
