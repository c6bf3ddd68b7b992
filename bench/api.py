"""How fast the controller's own Kubernetes API is: a list of 1,000 Triggers, creates per second,
500 watches.

    python -m bench.api [--bootstrap-servers HOST:PORT]

The controller runs in a process of its own, over memory or (with brokers named) with its resources
in a Kafka topic made for the run. The Triggers have no Broker, so what is measured is the API and
not what Kafka's topics cost. Client and server share the machine.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psutil
import urllib3

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.resources.control_ports import ResourceStore
from headrace.runtime.clock import SystemClock
from headrace.runtime.service import run_service
from headrace_controller.app import Controller
from headrace_controller.control_topics import ControlTopics
from headrace_controller.controller_runtime import ControllerBackends
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.settings import ControllerSettings

TRIGGERS = 1_000
WRITERS = 16
WATCHES = 500
LISTS = 21
CHANGES = 20
PATH = "/apis/eventing.knative.dev/v1/namespaces/default/triggers"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def serve(servers: str | None) -> Any:
    """Run the controller until standard input closes."""
    clock, log = SystemClock(), MemoryRoutingLog()
    store: ResourceStore = MemoryResourceStore(clock=clock)
    admin = None
    topic = f"bench.{uuid.uuid4().hex[:8]}.resources"
    if servers:
        options = KafkaOptions(bootstrap_servers=servers)
        admin = KafkaTopicAdmin(options)
        await ControlTopics(admin, (topic,)).start()
        store = KafkaResourceStore(
            options, kinds=RECONCILERS.stored_kinds, clock=clock, holder="bench", topic=topic
        )
    controller = Controller(
        ControllerSettings(port=0),
        ControllerBackends(
            store=store,
            admin=MemoryTopicAdmin(brokers=3),
            routes=MemoryRoutingWriter(log),
            routing=MemoryRoutingReader(log),
            instances=MemoryInstances(clock),
        ),
        clock=clock,
    )
    await controller.start()
    sys.stdout.write(f"{controller.url}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await controller.stop()
    if admin is not None:
        await admin.delete([topic])
        await admin.close()
    return 0


def trigger(name: str) -> bytes:
    """A Trigger of typical size."""
    spec = {
        "broker": "none",
        "filter": {"attributes": {"type": "com.example.order.created", "source": "/shop/checkout"}},
        "subscriber": {"uri": "http://billing.example.com/orders"},
        "delivery": {"retry": 5, "backoffPolicy": "exponential", "backoffDelay": "PT0.5S"},
    }
    return json.dumps(
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Trigger",
            "metadata": {"name": name},
            "spec": spec,
        }
    ).encode()


class Bench:
    """One run against one server."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self._url = url
        self._process = process
        self._http = urllib3.PoolManager(maxsize=WRITERS, retries=False, timeout=30)

    def run(self) -> dict[str, Any]:
        """All measurements."""
        self._until_writable()
        found: dict[str, Any] = {"creates": self.creates()}
        found["list"] = self.lists("application/json")
        found["table"] = self.lists(TABLE)
        found["watches"] = asyncio.run(self.watches())
        found["rss_mib"] = round(self._process.memory_info().rss / 2**20)
        return found

    def _until_writable(self) -> None:
        deadline = time.monotonic() + 30
        while (
            self._http.request(
                "POST",
                self._url + PATH,
                body=trigger("first"),
                headers={"Content-Type": "application/json"},
            ).status
            != 201
        ):
            if time.monotonic() > deadline:
                raise SystemExit("the controller does not take writes")
            time.sleep(0.1)

    def creates(self) -> dict[str, Any]:
        """Triggers created one by one by several clients."""

        def create(number: int) -> float:
            started = time.perf_counter()
            answer = self._http.request(
                "POST",
                self._url + PATH,
                body=trigger(f"t{number:04}"),
                headers={"Content-Type": "application/json"},
            )
            assert answer.status == 201, answer.data
            return time.perf_counter() - started

        cpu, started = self._cpu(), time.perf_counter()
        with ThreadPoolExecutor(WRITERS) as pool:
            took = list(pool.map(create, range(TRIGGERS)))
        seconds = time.perf_counter() - started
        return {
            "per_second": round(TRIGGERS / seconds),
            "p50_ms": round(1000 * statistics.median(took), 1),
            "p99_ms": round(1000 * statistics.quantiles(took, n=100)[98], 1),
            "server_cpu_ms_each": round(1000 * (self._cpu() - cpu) / TRIGGERS, 2),
        }

    def lists(self, accept: str) -> dict[str, Any]:
        """The whole list, repeatedly."""
        took, size, cpu = [], 0, self._cpu()
        for _ in range(LISTS):
            started = time.perf_counter()
            size = len(self._http.request("GET", self._url + PATH, headers={"Accept": accept}).data)
            took.append(time.perf_counter() - started)
        each = round(1000 * (self._cpu() - cpu) / LISTS)
        return {
            "median_ms": round(1000 * statistics.median(took)),
            "worst_ms": round(1000 * max(took)),
            "server_cpu_ms_each": each,
            "kib": size // 1024,
        }

    async def watches(self) -> dict[str, Any]:
        """Watches of one kind; the time from the response to a change until the last
        watch has it.
        """
        parts = urlsplit(self._url)
        before = self._process.memory_info().rss
        seen = [0]
        all_seen = asyncio.Event()

        async def watch() -> None:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            version = self._version
            writer.write(
                f"GET {PATH}?watch=1&resourceVersion={version} HTTP/1.1\r\nHost:"
                f" {parts.netloc}\r\n\r\n".encode()
            )
            assert b" 200 " in await reader.readline()
            ready.release()
            try:
                while line := await reader.readline():
                    if b'"type":"MODIFIED"' in line and b'"t0000"' in line and b'"turn"' in line:
                        seen[0] += 1
                        if seen[0] == WATCHES:
                            all_seen.set()
            finally:
                writer.close()

        self._version = json.loads(self._http.request("GET", f"{self._url}{PATH}?limit=1").data)[
            "metadata"
        ]["resourceVersion"]
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(watch()) for _ in range(WATCHES)]
        for _ in range(WATCHES):
            await ready.acquire()
        memory = self._process.memory_info().rss - before
        took = []
        cpu = self._cpu()
        for turn in range(CHANGES):
            seen[0] = 0
            all_seen.clear()
            started = time.perf_counter()
            patch = json.dumps({"metadata": {"annotations": {"turn": str(turn)}}}).encode()
            await asyncio.to_thread(
                self._http.request,
                "PATCH",
                f"{self._url}{PATH}/t0000",
                body=patch,
                headers={"Content-Type": "application/merge-patch+json"},
            )
            await all_seen.wait()
            took.append(time.perf_counter() - started)
        cpu = self._cpu() - cpu
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "open": WATCHES,
            "kib_each": round(memory / WATCHES / 1024),
            "change_to_all_median_ms": round(1000 * statistics.median(took)),
            "change_to_all_worst_ms": round(1000 * max(took)),
            "server_cpu_us_per_event": round(1e6 * cpu / CHANGES / WATCHES),
        }

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        raise SystemExit(run_service(lambda: serve(arguments.bootstrap_servers)))
    more = (
        ["--bootstrap-servers", arguments.bootstrap_servers] if arguments.bootstrap_servers else []
    )
    command = [sys.executable, "-m", "bench.api", "--serve", *more]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        lines = iter(child.stdout.readline, "")
        url = next(line.strip() for line in lines if line.startswith("http"))
        threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
        print(json.dumps(Bench(url, psutil.Process(child.pid)).run(), indent=2))
        child.stdin.close()


if __name__ == "__main__":
    main()
