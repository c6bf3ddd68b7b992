"""`make bench`: 1 KiB events over a real Kafka on this machine; ingress alone, dispatcher alone,
both together, and each kind of source (`bench.sources`).

wrk sends and nginx receives, so that neither is the limit. A bare ingress and a bare dispatcher
(`bench.bare`), which do as little as possible with the same libraries, run in turn with ours: the
ratio to them holds on other machines, microseconds do not. That of the dispatcher is the median of
`PAIRS` pairs. CPU per event is user and system time of the one process; on a busy machine it is
reliable, events per second are not.
"""

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.kafka import free_port
from tests.support.manifests import (
    ORDERED,
    Manifest,
    broker,
    broker_config,
    channel,
    subscription,
    trigger,
)
from tests.support.processes import ServiceProcess
from tests.support.rates import percentile
from tests.support.termination import interrupt_on_sigterm
from tests.support.wait_until import wait_until

from bench.drain import NAMESPACE, PARTITIONS, beside_a_drain
from bench.installation import installation
from bench.load import Meter, write_backlog, wrk
from bench.many_triggers import (
    ALL_OF_MANY,
    HANGING,
    ONE_OF_MANY,
    ORDERED_OF_MANY,
    ManyFigures,
    ManySizes,
    ManyTriggers,
    many_table,
)
from bench.many_triggers import QUICK as QUICK_MANY
from bench.report import Figures, Results, median_pair
from bench.sink import Deliveries, NginxSink, nginx
from bench.sources.cases import measure_sources
from bench.sources.service import QUICK as QUICK_SOURCES
from bench.sources.service import Sizes as SourceSizes
from headrace.adapters.kafka.local.kafka_server import ApacheKafka

CASES = ("ingress", "dispatcher", "channels", "drain", "together", "full", "sources", "many")
SUBSCRIPTIONS = (1, 100)
TRIGGERS = (1, 10, 100)
PAIRS = 5
"""Runs of the dispatcher and the bare one, in turn: the ratio of a single pair is 10 % off now and
then.
"""
LOW_RATE = 1_000.0
DRAIN_SECONDS = 240.0
SETTLE_SECONDS = 1.0
PACED_CONNECTIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much work each case does."""

    ingress_seconds: int = 15
    warm_seconds: int = 30
    """Kafka spends three times as much on an event in its first seconds: JIT compilation is not
    part of the cost.
    """
    bare_warm_seconds: int = 3
    """Of the bare ingress; Kafka is warm then."""
    deliveries: int = 100_000
    pairs: int = PAIRS
    together_seconds: int = 10
    deliveries_per_second: float = 2_000.0
    """At a fixed rate, for latencies without queueing."""
    sources: SourceSizes = field(default_factory=SourceSizes)
    many: ManySizes = field(default_factory=ManySizes)


QUICK = Sizes(
    ingress_seconds=5,
    warm_seconds=2,
    bare_warm_seconds=1,
    deliveries=20_000,
    pairs=1,
    together_seconds=4,
    sources=QUICK_SOURCES,
    many=QUICK_MANY,
)


class Bench:
    """The cases, on one Kafka and one installation."""

    def __init__(
        self,
        system: HeadraceUnderTest,
        kafka: ApacheKafka,
        sink: NginxSink,
        sizes: Sizes,
        results: Results,
    ) -> None:
        self._system = system
        self._kafka = kafka
        self._sink = sink
        self._sizes = sizes
        self._results = results

    def perform(self, triggers: tuple[int, ...], cases: Collection[str] = CASES) -> None:
        """These cases, the most expensive last."""
        self._system.establish(broker_config(NAMESPACE, "topics", partitions=PARTITIONS))
        if "ingress" in cases:
            for per_second in (0.0, LOW_RATE):
                for keyed in (False, True):
                    self._ingress(keyed=keyed, per_second=per_second)
        else:
            self._warm_up(keyed=True)
        for count in triggers if "dispatcher" in cases else ():
            for order in ("unordered", "ordered"):
                self._dispatcher(count, order)
        for count in SUBSCRIPTIONS if "channels" in cases else ():
            self._channel(count)
        if "drain" in cases:
            for url in (self._sink.slow_url, self._sink.url):
                for figures in beside_a_drain(
                    self._system, self._sink, url, seconds=self._sizes.together_seconds
                ):
                    self._add(figures)
        for count in triggers if "together" in cases else ():
            self._together(count)
        if "full" in cases:
            self._full_speed()
        if "sources" in cases:
            self._results.sources += measure_sources(self._system, self._sizes.sources)
        if "many" in cases:
            self._many_triggers()

    def _add(self, figures: Figures) -> None:
        self._results.cases.append(figures)
        print(
            f"{figures.work} {figures.triggers} {figures.order}: {figures.per_second:,.0f}/s",
            file=sys.stderr,
            flush=True,
        )

    def _warm_up(self, *, keyed: bool) -> str:
        """Let Kafka and the ingress run for a while; return the path of the Broker."""
        self._system.establish(broker(NAMESPACE, "alone", config="topics"))
        path = f"/{NAMESPACE}/alone"
        wrk(self._system.ingress_port, path, seconds=self._sizes.warm_seconds, keyed=keyed)
        return path

    def _ingress(self, *, keyed: bool, per_second: float = 0.0) -> None:
        """Without keys batches are whole; with keys each is distributed over the partitions, and
        Kafka's cost is per batch. At a low rate batches are small.
        """
        seconds = self._sizes.ingress_seconds
        path, port = self._warm_up(keyed=keyed), self._system.ingress_port
        meter, kafka = self._meter("ingress"), Meter(self._kafka.pid or 0)
        sent = wrk(port, path, seconds=seconds, keyed=keyed, per_second=per_second)
        stored = sent.requests - sent.refused
        ingress_us, kafka_us = meter.micros_per(stored), kafka.micros_per(stored)
        bare_us = self._bare_ingress(keyed=keyed, per_second=per_second)
        self._add(
            Figures(
                work="ingress, keys" if keyed else "ingress, no keys",
                order=f"{per_second:,.0f}/s" if per_second else "-",
                triggers=0,
                events=stored,
                per_second=stored / sent.seconds,
                ingress_us=ingress_us,
                bare_us=bare_us,
                kafka_us=kafka_us,
                p50_ms=sent.p50_ms,
                p99_ms=sent.p99_ms,
                ingress_rss_mib=meter.rss_mib(),
                note=f"{sent.refused} refused, {sent.errors} errors"
                if sent.refused or sent.errors
                else "",
            )
        )

    def _bare_ingress(self, *, keyed: bool, per_second: float) -> float:
        """CPU microseconds per event of the bare ingress, with the same topic and sender."""
        port = free_port()
        topic = f"knative-broker-{NAMESPACE}-alone"
        with self._bare("ingress", topic, str(port)) as process:
            wrk(port, "/", seconds=self._sizes.bare_warm_seconds, keyed=keyed)
            meter = Meter(process.pid)
            sent = wrk(
                port, "/", seconds=self._sizes.ingress_seconds, keyed=keyed, per_second=per_second
            )
            return meter.micros_per(sent.requests)

    def _bare_dispatcher(self, topic: str, total: int) -> float:
        """CPU microseconds per delivery of the bare dispatcher, for a topic that has a backlog."""
        deliveries = Deliveries(self._sink)
        port = str(self._sink.port)
        with self._bare("dispatcher", topic, f"bare-{topic}-{time.time_ns()}", port) as process:
            wait_until(lambda: deliveries.count() > 0, 30.0, "the first delivery", every=0.01)
            meter, already = Meter(process.pid), deliveries.count()
            wait_until(
                lambda: deliveries.count() >= total,
                DRAIN_SECONDS,
                f"{total} deliveries",
                every=0.02,
            )
            return meter.micros_per(deliveries.count() - already)

    @contextlib.contextmanager
    def _bare(self, program: str, *arguments: str) -> Iterator[ServiceProcess]:
        servers = self._system.log.bootstrap_servers
        process = self._system.processes.start(
            f"bare-{program}",
            [sys.executable, "-m", f"bench.bare.{program}", servers, *arguments],
        )
        try:
            process.wait_for("ready")
            yield process
        finally:
            process.stop()

    def _establish(self, name: str, count: int, *, url: str, ordered: bool) -> list[Manifest]:
        annotations = ORDERED if ordered else {}
        manifests = [
            trigger(NAMESPACE, f"{name}-{number}", url, broker=name, annotations=annotations)
            for number in range(count)
        ]
        self._system.apply(broker(NAMESPACE, name, config="topics"), *manifests)
        self._system.wait_ready(broker(NAMESPACE, name), *manifests, seconds=120.0)
        return manifests

    def _dispatcher(self, count: int, order: str) -> None:
        if count > 1:
            self._add(self._backlog(f"{order}-{count}", count, order))
            return
        names = [f"{order}-{count}-{pair}" for pair in range(self._sizes.pairs)]
        self._add(median_pair([self._backlog(each, count, order, bare=True) for each in names]))

    def _backlog(self, name: str, count: int, order: str, *, bare: bool = False) -> Figures:
        """Deliver the backlog of a Broker of this name to this number of Triggers."""
        manifests = self._establish(name, count, url=self._sink.url, ordered=order == "ordered")
        topic = f"knative-broker-{NAMESPACE}-{name}"
        figures = self._deliver(
            "dispatcher", count, order, self._sizes.deliveries, topic, bare=bare
        )
        self._system.delete(*manifests, seconds=120.0)
        return figures

    def _channel(self, count: int) -> None:
        """A Channel with Subscriptions, to compare with a Broker with Triggers without a filter."""
        name = f"channel-{count}"
        target = channel(NAMESPACE, name, kind="KafkaChannel", spec={"numPartitions": PARTITIONS})
        readers = [
            subscription(target, f"{name}-{number}", self._sink.url) for number in range(count)
        ]
        self._system.apply(target, *readers)
        self._system.wait_ready(target, *readers, seconds=120.0)
        topic = f"knative-messaging-kafka.{NAMESPACE}.{name}"
        work = "dispatcher, Channel"
        self._add(self._deliver(work, count, "unordered", self._sizes.deliveries, topic))
        self._system.delete(*readers, target, seconds=120.0)

    def _deliver(
        self, work: str, count: int, order: str, total: int, topic: str, *, bare: bool = False
    ) -> Figures:
        """Let a dispatcher that starts deliver a backlog of a topic to its subscriptions; with
        `bare`, the bare one delivers it afterwards.
        """
        process = self._system.services["dispatcher-0"]
        process.stop()
        write_backlog(self._system.log.bootstrap_servers, topic, total // count)
        deliveries = Deliveries(self._sink)
        started = time.monotonic()
        self._system.run("dispatcher-0")
        wait_until(lambda: deliveries.count() > 0, 30.0, "the first delivery", every=0.01)
        first, meter, kafka = (
            time.monotonic(),
            self._meter("dispatcher-0"),
            Meter(self._kafka.pid or 0),
        )
        already = deliveries.count()
        wait_until(
            lambda: deliveries.count() >= total, DRAIN_SECONDS, f"{total} deliveries", every=0.02
        )
        seconds, done = time.monotonic() - first, total - already
        dispatcher_us, kafka_us = meter.micros_per(done), kafka.micros_per(done)
        rss_mib = meter.rss_mib()
        bare_us = self._bare_dispatcher(topic, total) if bare else None
        return Figures(
            work=work,
            triggers=count,
            order=order,
            events=total,
            per_second=done / seconds,
            dispatcher_us=dispatcher_us,
            kafka_us=kafka_us,
            dispatcher_rss_mib=rss_mib,
            start_seconds=first - started,
            bare_us=bare_us,
        )

    def _together(self, count: int) -> None:
        name = f"together-{count}"
        manifests = self._establish(name, count, url=self._sink.timed_url, ordered=False)
        per_second = min(1_000.0, self._sizes.deliveries_per_second / count)
        path, port = f"/{NAMESPACE}/{name}", self._system.ingress_port
        wrk(
            port,
            path,
            seconds=self._sizes.warm_seconds,
            connections=PACED_CONNECTIONS,
            per_second=per_second,
        )
        time.sleep(SETTLE_SECONDS)
        self._sink.forget()
        ingress, dispatcher = self._meter("ingress"), self._meter("dispatcher-0")
        sent = wrk(
            port,
            path,
            seconds=self._sizes.together_seconds,
            connections=PACED_CONNECTIONS,
            per_second=per_second,
        )
        wait_until(
            lambda: len(self._sink.latencies_ms()) >= sent.requests * count,
            30.0,
            "all paced events arrive",
            every=0.5,
        )
        latencies = self._sink.latencies_ms()
        self._add(
            Figures(
                work="together",
                triggers=count,
                order="unordered",
                events=sent.requests,
                per_second=sent.rate,
                ingress_us=ingress.micros_per(sent.requests),
                dispatcher_us=dispatcher.micros_per(len(latencies)),
                p50_ms=percentile(latencies, 0.5),
                p99_ms=percentile(latencies, 0.99),
                ingress_rss_mib=ingress.rss_mib(),
                dispatcher_rss_mib=dispatcher.rss_mib(),
                note="paced",
            )
        )
        self._system.delete(*manifests, seconds=120.0)

    def _full_speed(self) -> None:
        """Both at once, as fast as wrk gets answers: the throughput of two processes and Kafka on
        two cores.
        """
        manifests = self._establish("full", 1, url=self._sink.url, ordered=False)
        deliveries = Deliveries(self._sink)
        ingress, dispatcher = self._meter("ingress"), self._meter("dispatcher-0")
        sent = wrk(
            self._system.ingress_port, f"/{NAMESPACE}/full", seconds=self._sizes.together_seconds
        )
        during = deliveries.count()
        stored = sent.requests - sent.refused
        wait_until(
            lambda: deliveries.count() >= stored, DRAIN_SECONDS, f"{stored} deliveries", every=0.05
        )
        self._add(
            Figures(
                work="together",
                triggers=1,
                order="unordered",
                events=stored,
                per_second=stored / sent.seconds,
                ingress_us=ingress.micros_per(stored),
                dispatcher_us=dispatcher.micros_per(stored),
                ingress_rss_mib=ingress.rss_mib(),
                dispatcher_rss_mib=dispatcher.rss_mib(),
                note=f"full speed; {during / sent.seconds:,.0f}/s delivered meanwhile",
            )
        )
        self._system.delete(*manifests, seconds=60.0)

    def _many_triggers(self) -> None:
        many = ManyTriggers(self._system, self._kafka.pid or 0, self._sink, self._sizes.many)
        for count, matching in (
            *((count, 1) for count in ONE_OF_MANY),
            *((count, count) for count in ALL_OF_MANY),
        ):
            self._add_many(many.measure(count, matching))
        for count, matching in ORDERED_OF_MANY:
            self._add_many(many.measure(count, matching, ordered=True))
        self._add_many(many.measure_hanging(*HANGING))

    def _add_many(self, figures: ManyFigures) -> None:
        self._results.many.append(figures)
        print(many_table([figures]), file=sys.stderr, flush=True)

    def _meter(self, name: str) -> Meter:
        return Meter(self._system.services[name].pid)


def main() -> None:
    """Run from the command line."""
    interrupt_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the work, for a first look"
    )
    parser.add_argument("--json", type=Path, help="where the figures are written too")
    parser.add_argument("--triggers", type=int, nargs="+", default=list(TRIGGERS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    options = parser.parse_args()
    for tool in ("wrk", "nginx"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed: apt-get install {tool}")
    results, sizes = Results(), QUICK if options.quick else Sizes()
    with installation() as (system, kafka), nginx(system.directory / "nginx") as sink:
        bench = Bench(system, kafka, sink, sizes, results)
        bench.perform(tuple(options.triggers), options.cases)
    results.publish(options.json)


if __name__ == "__main__":
    main()
