"""The ingress as processes: workers that share a port, crash and are replaced, and the order of the
shutdown.
"""

import asyncio
import contextlib
import re
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psutil
import pytest
import urllib3
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.control.routing import KafkaRoutingWriter
from headrace.adapters.kafka.options import KafkaOptions
from headrace.codec import routing
from headrace.domain.control_topics import INSTANCES_TOPIC, ROUTING_TOPIC
from headrace.domain.routing import Addressable, route_key
from tests.contract.test_log import read_topic
from tests.support.kafka import KafkaUnderTest, free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until_async
from tests.unit.ingress.harness import request, talk

pytestmark = pytest.mark.kafka


@dataclass
class Site:
    """A Broker in the routing table, and its topic."""

    path: bytes
    topic: str


@pytest.fixture
async def site(kafka: KafkaUnderTest) -> AsyncIterator[Site]:
    """A Broker for one test, removed at the end."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    wanted = [
        NewTopic(name, num_partitions=1, replication_factor=1, config={"cleanup.policy": "compact"})
        for name in (ROUTING_TOPIC, INSTANCES_TOPIC)
    ]
    for future in admin.create_topics(wanted).values():
        with contextlib.suppress(Exception):  # exists already
            await asyncio.wrap_future(future)
    made = Site(f"/shop/{uuid.uuid4().hex}".encode(), kafka.create_topic("orders"))
    route = Addressable(
        uid=uuid.uuid4().hex,
        generation=1,
        epoch=1,
        namespace="shop",
        name="orders",
        topic=made.topic,
        paths=(made.path.decode(),),
    )
    writer = KafkaRoutingWriter(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    await writer.write({route_key(route): routing.write(route)})
    yield made
    await writer.write({route_key(route): None})
    await writer.stop()


class Running:
    """`headrace ingress` as a process."""

    def __init__(
        self, processes: Processes, kafka: KafkaUnderTest, *options: str, **env: str
    ) -> None:
        self.port, self._management = free_port(), free_port()
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(5), retries=False)
        self.process: ServiceProcess = processes.headrace(
            "ingress",
            "--port",
            str(self.port),
            "--management-port",
            str(self._management),
            *options,
            env={
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "HEADRACE_LOG_FORMAT": "json",
                **env,
            },
        )

    def page(self, name: str) -> tuple[int, str]:
        """Return status and text of a page of the management port; status 0 if nobody answers."""
        try:
            answer = self._http.request("GET", f"http://127.0.0.1:{self._management}/{name}")
        except urllib3.exceptions.HTTPError:
            return 0, ""
        return answer.status, answer.data.decode()

    async def ready(self) -> None:
        """Wait until the ingress is ready."""
        await wait_until_async(
            lambda: self.page("readyz")[0] == 200, 60, "the ingress is ready", every=0.05
        )

    def workers(self) -> set[int]:
        """Return the processes that it has started."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def accepted(self) -> float:
        """Return the number of events that all workers together have accepted."""
        return sum(self.metric('headrace_ingress_events_accepted_total{.*name="orders".*}'))

    def metric(self, sample: str) -> list[float]:
        """Return the values of the samples that a pattern matches."""
        pattern = sample.replace("{", r"\{").replace("}", r"\}")
        page = self.page("metrics")[1]
        return [float(value) for value in re.findall(f"^{pattern} (\\S+)$", page, re.MULTILINE)]

    async def post(self, site: Site, event_id: str) -> int:
        """Send one event on a new connection; return its status, 0 if the connection broke."""
        raw = request(target=site.path).replace(b"ce-id: 7", b"ce-id: " + event_id.encode())
        try:
            answer = await talk(self.port, raw, seconds=10)
        except OSError:
            return 0
        return int(answer[9:12]) if answer else 0


async def write_until(
    running: Running, site: Site, stopped: asyncio.Event, name: str
) -> tuple[set[str], set[int]]:
    """Send one event after the other; return the acknowledged ids and all statuses."""
    acknowledged, statuses = set(), set()
    number = 0
    while not stopped.is_set():
        number += 1
        status = await running.post(site, f"{name}-{number}")
        statuses.add(status)
        if status == 202:
            acknowledged.add(f"{name}-{number}")
        elif status == 0:
            await asyncio.sleep(0.01)
    return acknowledged, statuses


async def stored_ids(kafka: KafkaUnderTest, site: Site) -> set[str]:
    """Return the ids of all events in the topic."""
    rows = await asyncio.to_thread(read_topic, kafka.bootstrap_servers, site.topic)
    return {dict(headers)["ce_id"].decode() for _, _, headers in rows}


async def test_workers_share_the_port_and_their_metrics_and_are_replaced(
    processes: Processes, kafka: KafkaUnderTest, site: Site
) -> None:
    """Two processes accept events on one port, and their counts are summed. A killed process is
    replaced, and no acknowledged event is missing.
    """
    running = Running(processes, kafka, "--workers", "2")
    await running.ready()
    first = running.workers()
    assert 2 == len(first)
    assert {202} == {await running.post(site, f"first-{number}") for number in range(40)}
    await wait_until_async(
        lambda: running.accepted() == 40, what="the metrics of both workers add up", every=0.1
    )
    assert [40.0] == running.metric("headrace_ingress_event_size_bytes_count{.*}")
    assert [1.0] == running.metric('headrace_ready{component="ingress"}')
    assert [0.0] == running.metric("headrace_ingress_worker_exits_total")
    (offset,) = running.metric('headrace_routing_offset{component="ingress"}')
    assert offset >= 0
    assert running.metric("headrace_kafka_produce_seconds_count")[0] > 0

    stopped = asyncio.Event()
    writers = [
        asyncio.create_task(write_until(running, site, stopped, f"w{number}"))
        for number in range(4)
    ]
    psutil.Process(min(first)).send_signal(signal.SIGKILL)
    await wait_until_async(
        lambda: (
            len(running.workers() - first) == 1
            and "restarting" not in running.page("readyz?verbose")[1]
        ),
        60,
        "it is replaced",
    )
    assert [1.0] == running.metric("headrace_ingress_worker_exits_total")
    stopped.set()
    results = await asyncio.gather(*writers)
    assert {0, 202} >= set().union(*(statuses for _, statuses in results)), (
        "no wrong status while a worker is away"
    )
    acknowledged = set().union(*(ids for ids, _ in results))
    assert acknowledged <= await stored_ids(kafka, site)
    workers = running.workers()
    assert 0 == await asyncio.to_thread(running.process.stop)
    assert not any(psutil.pid_exists(pid) for pid in workers)


async def test_readiness_fails_first_and_every_request_in_flight_is_answered(
    processes: Processes, kafka: KafkaUnderTest, site: Site
) -> None:
    """After SIGTERM the process reports that it is not ready while it still accepts events, then
    exits with code 0. No event is lost.
    """
    running = Running(processes, kafka, HEADRACE_INGRESS_SHUTDOWN_DELAY_SECONDS="1.0")
    await running.ready()
    stopped = asyncio.Event()
    writers = [
        asyncio.create_task(write_until(running, site, stopped, f"w{number}"))
        for number in range(4)
    ]
    assert 202 == await running.post(site, "before")
    running.process.terminate()
    await wait_until_async(lambda: running.page("readyz")[0] == 503, what="it is not ready")
    assert 202 == await running.post(site, "after")
    code = await asyncio.to_thread(running.process.wait)
    stopped.set()
    results = await asyncio.gather(*writers)
    assert 0 == code
    assert {0, 202} >= set().union(*(statuses for _, statuses in results))
    acknowledged = set().union({"before", "after"}, *(ids for ids, _ in results))
    assert acknowledged <= await stored_ids(kafka, site)


async def test_workers_end_with_their_parent(
    processes: Processes, kafka: KafkaUnderTest, site: Site
) -> None:
    """When the parent is killed, no worker keeps using the port."""
    running = Running(processes, kafka, "--workers", "2")
    await running.ready()
    workers = running.workers()
    running.process.kill()
    await wait_until_async(
        lambda: not any(psutil.pid_exists(pid) for pid in workers), 40, "the workers are gone"
    )
