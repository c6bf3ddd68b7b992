"""`python -m bench.backends`: 1 KiB events through a channel of each kind with one Subscription,
accepted and delivered at the same time, on one machine.

CPU per event is user and system time of each process: the one that accepts, the one that delivers
(for in-memory channels both are one process), and the server that stores.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.headrace_under_test import HeadraceUnderTest, kafka_for_headrace
from tests.support.manifests import channel, subscription
from tests.support.nats_server import NatsServer
from tests.support.rates import percentile
from tests.support.termination import interrupt_on_sigterm
from tests.support.wait_until import wait_until

from bench.load import Meter, wrk
from bench.sink import Deliveries, NginxSink, nginx

NAMESPACE = "bench"
KINDS = ("KafkaChannel", "NatsJetStreamChannel", "InMemoryChannel")
PACED_PER_SECOND = 1_000.0
PACED_CONNECTIONS = 32
DRAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One kind of channel."""

    kind: str
    events: int
    accepted_per_second: float
    delivered_per_second: float
    """Both as fast as they can, at the same time, on the same cores."""
    accept_us: float
    deliver_us: float
    """CPU microseconds of Headrace per event. For in-memory channels `deliver_us` is 0, and
    `accept_us` is both.
    """
    server_us: float
    """CPU microseconds of Kafka or of the NATS server per event."""
    p50_ms: float
    p99_ms: float
    """From send to subscriber, at 1,000 events/s."""


def measure(
    system: HeadraceUnderTest,
    sink: NginxSink,
    kind: str,
    server: Callable[[], int],
    *,
    seconds: int,
) -> Measured:
    """One kind; `server` returns the process that stores its events, 0 if there is none."""
    name = kind.lower()
    system.use_channels(kind)
    target, timed = channel(NAMESPACE, name, kind=kind), f"{name}-timed"
    system.establish(target)
    system.establish(subscription(target, name, sink.url))
    path = f"/{NAMESPACE}/{name}s/{name}"
    port = int(system.url_for(path, {}).rpartition(":")[2])
    processes = ("in-memory",) if kind == "InMemoryChannel" else ("ingress", "dispatcher-0")
    wrk(port, path, seconds=seconds)
    deliveries = Deliveries(sink)
    meters = [Meter(system.services[each].pid) for each in processes]
    storage = Meter(server()) if server() else None
    sent = wrk(port, path, seconds=seconds)
    during, stored = deliveries.count(), sent.requests - sent.refused
    wait_until(lambda: deliveries.count() >= stored, DRAIN_SECONDS, f"{stored} deliveries")
    costs = [meter.micros_per(stored) for meter in meters]
    stored_us = storage.micros_per(stored) if storage else 0.0
    system.delete(subscription(target, name, sink.url))
    system.establish(subscription(target, timed, sink.timed_url))
    sink.forget()
    paced = wrk(
        port, path, seconds=seconds, connections=PACED_CONNECTIONS, per_second=PACED_PER_SECOND
    )
    arrived = paced.requests - paced.refused
    wait_until(
        lambda: len(sink.latencies_ms()) >= arrived,
        30.0,
        f"{arrived} paced events",
        every=0.5,
    )
    latencies = sink.latencies_ms()
    system.delete(subscription(target, timed, sink.timed_url), target)
    return Measured(
        kind=kind,
        events=stored,
        accepted_per_second=stored / sent.seconds,
        delivered_per_second=during / sent.seconds,
        accept_us=costs[0],
        deliver_us=costs[1] if len(costs) > 1 else 0.0,
        server_us=stored_us,
        p50_ms=percentile(latencies, 0.5) or 0.0,
        p99_ms=percentile(latencies, 0.99) or 0.0,
    )


def main() -> None:
    """Run from the command line."""
    interrupt_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    for tool in ("wrk", "nginx", "nats-server"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed: apt-get install {tool}")
    results = []
    with tempfile.TemporaryDirectory(
        prefix="headrace-bench-", ignore_cleanup_errors=True
    ) as temporary:
        directory = Path(temporary)
        with kafka_for_headrace(directory) as kafka, nginx(directory / "nginx") as sink:
            nats = NatsServer(directory / "nats")
            nats.start()
            env = {"HEADRACE_LOG_LEVEL": "warning", "HEADRACE_NATS_SERVERS": nats.url}
            system = HeadraceUnderTest(kafka.bootstrap_servers, directory, env=env)
            servers: dict[str, Callable[[], int]] = {
                "KafkaChannel": lambda: kafka.pid or 0,
                "NatsJetStreamChannel": lambda: nats.pid or 0,
                "InMemoryChannel": lambda: 0,
            }
            try:
                system.run_in_memory()
                system.start()
                for kind in options.kinds:
                    found = measure(system, sink, kind, servers[kind], seconds=options.seconds)
                    results.append(found)
                    print(json.dumps(asdict(found)), flush=True)
            except BaseException:
                print(system.processes.report(), file=sys.stderr)
                raise
            finally:
                system.close()
                nats.kill()


if __name__ == "__main__":
    main()
