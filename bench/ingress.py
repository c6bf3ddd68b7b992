"""How much one ingress process costs per event, over real Kafka: wrk with 64 connections posts 1
KiB events to it.

Prints one JSON object. CPU per event is user and system time of the ingress process alone (loop,
client threads and all), so that the figure holds on a machine that others use too; events per
second does not.

    python -m bench.ingress --bootstrap-servers HOST:PORT [--seconds 10] [--connections 64] [--bytes
    1024]
"""

import argparse
import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.routing import Addressable, RoutingTable
from headrace.runtime.logging import configure
from headrace.runtime.metrics import Metrics, MetricsFlusher
from headrace.runtime.process import ExitCode, tune_gc
from headrace.runtime.service import Service, run_service
from headrace.runtime.settings import LogSettings
from headrace_ingress.app import Ingress
from headrace_ingress.settings import IngressSettings

SCRIPT = Path(__file__).parent / "wrk" / "ingress.lua"
PATH = "/bench/default"


class FixedRoutes:
    """A routing table with one addressable, which never changes."""

    def __init__(self, topic: str) -> None:
        self.table = RoutingTable()
        route = Addressable(
            uid="bench",
            generation=1,
            epoch=1,
            namespace="bench",
            name="default",
            topic=topic,
            paths=(PATH,),
        )
        self.table.apply("addressable/bench", route)

    async def start(self) -> None:
        """Does nothing."""

    async def refresh(self, timeout_seconds: float) -> bool:
        """It is always current."""
        return True

    def watch(self, changed: Callable[[Collection[str]], None]) -> None:
        """It never changes."""

    async def stop(self) -> None:
        """Does nothing."""


def serve(bootstrap_servers: str, topic: str) -> ExitCode:
    """The ingress under test: all of `headrace ingress` except the routing topic; prints its port
    when ready.
    """

    async def main() -> ExitCode:
        configure(LogSettings(), service="ingress")
        log, metrics = KafkaLog(KafkaOptions(bootstrap_servers=bootstrap_servers)), Metrics()
        ingress = Ingress(
            IngressSettings(port=0),
            log=log,
            routes=FixedRoutes(topic),
            metrics=metrics,
            warm_up=log.warm_up,
        )
        service = Service("ingress")
        service.add("log", log)
        service.add("metrics", MetricsFlusher(metrics))
        service.add("ingress", ingress)

        async def say() -> None:
            await tune_gc()
            print(ingress.port, flush=True)

        return await service.run(say)

    return run_service(main)


@contextlib.contextmanager
def topic_of(bootstrap_servers: str, partitions: int) -> Iterator[str]:
    """A topic for this run."""
    admin, name = (
        AdminClient({"bootstrap.servers": bootstrap_servers}),
        f"bench-ingress-{uuid.uuid4().hex[:8]}",
    )
    admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[
        name
    ].result(20)
    try:
        yield name
    finally:
        admin.delete_topics([name])[name].result(20)


def load(port: int, *, seconds: int, connections: int, size: int) -> dict[str, float]:
    """Run wrk and return what its script says."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "-s",
        str(SCRIPT),
        f"http://127.0.0.1:{port}{PATH}",
        "--",
        str(size),
    ]
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=seconds + 30
    ).stdout
    figures: dict[str, float] = json.loads(output[output.rindex('{"requests"') :])
    return figures


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """One run: warm up for 2 s, then count."""
    with topic_of(arguments.bootstrap_servers, arguments.partitions) as topic:
        command = [
            sys.executable,
            "-m",
            "bench.ingress",
            "--bootstrap-servers",
            arguments.bootstrap_servers,
            "--serve",
            topic,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            load(port, seconds=2, connections=arguments.connections, size=arguments.bytes)
            watched = psutil.Process(process.pid)
            before = watched.cpu_times()
            figures = load(
                port,
                seconds=arguments.seconds,
                connections=arguments.connections,
                size=arguments.bytes,
            )
            after, memory = watched.cpu_times(), watched.memory_info()
        finally:
            process.terminate()
            process.wait(30)
    events = figures["requests"] - figures["refused"]
    user, system = after.user - before.user, after.system - before.system
    return {
        "events_per_second": round(events / figures["microseconds"] * 1e6),
        "cpu_us_per_event": round((user + system) / events * 1e6, 1),
        "user_us_per_event": round(user / events * 1e6, 1),
        "system_us_per_event": round(system / events * 1e6, 1),
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "rss_mib": round(memory.rss / 1_048_576, 1),
        "refused": figures["refused"],
        "socket_errors": figures["socket_errors"],
        "exit_code": process.returncode,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure one ingress process over real Kafka.")
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--serve", metavar="TOPIC", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        sys.exit(serve(arguments.bootstrap_servers, arguments.serve))
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
