"""What a backlog of one subscription costs another: the same paced events, measured alone and
during a drain.
"""

import time
from dataclasses import replace

from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.manifests import broker, trigger
from tests.support.rates import percentile
from tests.support.wait_until import wait_until

from bench.load import Meter, write_backlog, wrk
from bench.report import Figures
from bench.sink import Deliveries, NginxSink

NAMESPACE = "bench"
PARTITIONS = 10
PER_SECOND = 200.0
CONNECTIONS = 8
DRAINED_PER_SECOND_MAX = 20_000
"""No dispatcher drains faster here: the backlog must be large enough for the drain to outlast the
measurement.
"""
START_SECONDS = 6
"""From the dispatcher's start to the end of the warming up."""


def beside_a_drain(
    system: HeadraceUnderTest, sink: NginxSink, url: str, *, seconds: int
) -> list[Figures]:
    """Two results: a paced subscription alone, then while another one drains a backlog to `url`."""
    slow = url == sink.slow_url
    name = "slowly" if slow else "fast"
    quiet, backlog = f"quiet-{name}", f"backlog-{name}"
    manifests = [
        trigger(NAMESPACE, quiet, sink.timed_url, broker=quiet),
        trigger(NAMESPACE, backlog, url, broker=backlog),
    ]
    system.establish(
        broker(NAMESPACE, quiet, config="topics"),
        broker(NAMESPACE, backlog, config="topics"),
        *manifests,
    )
    alone = _paced(system, sink, quiet, seconds=seconds, note=f"alone (before the drain {name})")
    process = system.services["dispatcher-0"]
    process.stop()
    per_second = 5_000 if slow else DRAINED_PER_SECOND_MAX
    write_backlog(
        system.log.bootstrap_servers,
        f"knative-broker-{NAMESPACE}-{backlog}",
        per_second * (seconds + START_SECONDS),
    )
    deliveries = Deliveries(sink)
    process.start()
    wait_until(lambda: deliveries.count() > 0, 30.0, "the first delivery", every=0.01)
    before, began = deliveries.count(), time.monotonic()
    beside = _paced(system, sink, quiet, seconds=seconds, note=f"beside a drain {name}")
    rate = (deliveries.count() - before) / (time.monotonic() - began)
    system.delete(*manifests, seconds=60.0)
    return [alone, replace(beside, note=f"{beside.note}, {rate:,.0f}/s in all")]


def _paced(
    system: HeadraceUnderTest, sink: NginxSink, name: str, *, seconds: int, note: str
) -> Figures:
    path, port = f"/{NAMESPACE}/{name}", system.ingress_port
    wrk(port, path, seconds=2, connections=CONNECTIONS, per_second=PER_SECOND)
    time.sleep(1.0)
    sink.forget()
    meter = Meter(system.services["dispatcher-0"].pid)
    sent = wrk(port, path, seconds=seconds, connections=CONNECTIONS, per_second=PER_SECOND)
    wait_until(
        lambda: len(sink.latencies_ms()) >= sent.requests - sent.refused,
        30.0,
        "all paced events arrive",
        every=0.2,
    )
    latencies = sink.latencies_ms()
    return Figures(
        work="quiet",
        triggers=2,
        order="unordered",
        events=len(latencies),
        per_second=sent.rate,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        dispatcher_rss_mib=meter.rss_mib(),
        note=note,
    )
