"""The controller on a real Kafka: resources that are created through its API become topics,
offsets, routing records and statuses, and are removed again.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.control.routing import KafkaRoutingReader, KafkaRoutingWriter
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.adapters.kafka.store.transactional_log import TransactionalLog
from headrace.adapters.memory.instances import MemoryInstances
from headrace.domain.ports import Instance
from headrace.domain.routing import Addressable, Subscription
from headrace.resources.control_ports import GroupState
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Change
from headrace.runtime.clock import SystemClock
from headrace.runtime.failpoints import Failpoint
from headrace_apiserver.controllers.event_recorder import EVENT
from headrace_controller import controller_runtime, plan_executor
from headrace_controller.app import Controller
from headrace_controller.control_topics import ControlTopics
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.settings import ControllerSettings
from headrace_controller.topic_backend import backend as topic_backend
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka

BROKERS = "/apis/eventing.knative.dev/v1/namespaces/{}/brokers"
TRIGGERS = "/apis/eventing.knative.dev/v1/namespaces/{}/triggers"
CONFIG = {"default.topic.partitions": "3", "default.topic.replication.factor": "1"}


@dataclass
class KafkaBackends:
    """One installation on the shared Kafka, with its own control topics and namespace."""

    options: KafkaOptions
    admin: KafkaTopicAdmin
    mark: str
    clock: SystemClock

    @property
    def topics(self) -> tuple[str, str]:
        """The topics of the resources and of the routing table."""
        return f"{self.mark}.resources", f"{self.mark}.routing"

    @property
    def namespace(self) -> str:
        """The namespace of the test's resources."""
        return self.mark

    @property
    def group(self) -> str:
        """The group of the Trigger `orders`."""
        return f"knative-trigger-{self.mark}-orders"

    @property
    def topic(self) -> str:
        """The topic of the Broker `default`."""
        return f"knative-broker-{self.mark}-default"


class RunningController:
    """A controller, with a data plane that has always read everything, and its API."""

    def __init__(self, backends: KafkaBackends, *, holder: str = "one") -> None:
        resources, routing = backends.topics
        self.backends = backends
        self.instances = MemoryInstances(backends.clock)
        self.store = KafkaResourceStore(
            backends.options,
            kinds=RECONCILERS.stored_kinds,
            clock=backends.clock,
            holder=holder,
            topic=resources,
        )
        self.routing = KafkaRoutingReader(backends.options, topic=routing)
        self.writer = KafkaRoutingWriter(backends.options, topic=routing)
        self.controller = Controller(
            ControllerSettings(port=0),
            controller_runtime.ControllerBackends(
                store=self.store,
                admin=backends.admin,
                routes=self.writer,
                routing=self.routing,
                instances=self.instances,
            ),
            clock=backends.clock,
        )
        self._http = urllib3.PoolManager(timeout=10, retries=False, maxsize=64)

    async def start(self) -> None:
        """Start, with one live ingress and one live dispatcher."""
        for service in ("ingress", "dispatcher"):
            await self.instances.report(Instance(service, service, 1_000_000, 0))
        await self.controller.start()
        self._alive = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(2)
            for service in ("ingress", "dispatcher"):
                await self.instances.report(Instance(service, service, 1_000_000, 0))

    async def stop(self) -> None:
        """Stop gracefully."""
        self._alive.cancel()
        await self.controller.stop()
        await self.writer.stop()
        self._http.clear()

    async def call(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Send one request to the API; return status and document."""
        content = None if body is None else json.dumps(body).encode()
        lines = {"Content-Type": "application/json", **(headers or {})}
        answer = await asyncio.to_thread(
            self._http.request, method, self.controller.url + path, body=content, headers=lines
        )
        return answer.status, json.loads(answer.data)

    async def text(self, path: str) -> str:
        """Return the text of a GET response that ends by itself."""
        return (
            await asyncio.to_thread(self._http.request, "GET", self.controller.url + path)
        ).data.decode()

    async def ready(self, path: str) -> bool:
        """Return whether the resource is Ready at its generation."""
        code, found = await self.call("GET", path)
        status = found.get("status", {}) if code == 200 else {}
        ready = any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in status.get("conditions", ())
        )
        return ready and status.get("observedGeneration") == found["metadata"]["generation"]

    async def until_ready(self, path: str) -> dict[str, Any]:
        """Wait until the resource is Ready; return it."""
        async with asyncio.timeout(20):
            while not await self.ready(path):
                await asyncio.sleep(0.02)
        return (await self.call("GET", path))[1]

    async def until_gone(self, path: str) -> None:
        """Wait until the resource does not exist."""
        async with asyncio.timeout(20):
            while (await self.call("GET", path))[0] != 404:
                await asyncio.sleep(0.02)

    async def make(self, **trigger: Any) -> None:
        """Create a namespace, a ConfigMap, a Broker and a Trigger."""
        n = self.backends.namespace
        assert 201 == (await self.call("POST", "/api/v1/namespaces", {"metadata": {"name": n}}))[0]
        assert (
            201
            == (
                await self.call(
                    "POST",
                    f"/api/v1/namespaces/{n}/configmaps",
                    {"metadata": {"name": "mine"}, "data": CONFIG},
                )
            )[0]
        )
        config = {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"}
        assert (
            201
            == (
                await self.call(
                    "POST",
                    BROKERS.format(n),
                    {"metadata": {"name": "default"}, "spec": {"config": config}},
                )
            )[0]
        )
        spec = {"broker": "default", "subscriber": {"uri": "http://127.0.0.1:9/"}, **trigger}
        assert (
            201
            == (
                await self.call(
                    "POST", TRIGGERS.format(n), {"metadata": {"name": "orders"}, "spec": spec}
                )
            )[0]
        )


@asynccontextmanager
async def create_backends(kafka: KafkaUnderTest) -> AsyncIterator[KafkaBackends]:
    """The backends of a new installation, removed afterwards."""
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    made = KafkaBackends(
        options, KafkaTopicAdmin(options), f"c{uuid.uuid4().hex[:8]}", SystemClock()
    )
    await ControlTopics(made.admin, made.topics).start()
    yield made
    await made.admin.delete([*made.topics, made.topic, f"{made.group}.retry", f"{made.group}.dead"])
    await made.admin.delete_groups([made.group])
    await made.admin.close()


@pytest.fixture
async def backends(kafka: KafkaUnderTest) -> AsyncIterator[KafkaBackends]:
    """The backends of one test."""
    async with create_backends(kafka) as made:
        yield made


@pytest.fixture
async def running(backends: KafkaBackends) -> AsyncIterator[RunningController]:
    """A controller that writes."""
    made = RunningController(backends)
    await made.start()
    await wait_until_async(lambda: made.store.epoch is not None, 15, "the controller to write")
    yield made
    await made.stop()


@pytest.mark.clause("B1")
async def test_broker_and_trigger_become_ready_and_go_again(running: RunningController) -> None:
    """Topics, settings, start offsets, routing records and statuses exist. After the deletion only
    the dead letters are left.
    """
    backends, n = running.backends, running.backends.namespace
    await running.make()
    trigger = await running.until_ready(f"{TRIGGERS.format(n)}/orders")
    facts = await backends.admin.describe(
        [backends.topic, f"{backends.group}.retry", f"{backends.group}.dead", "headrace.delay.10s"]
    )
    assert (3, "1048576") == (
        facts[backends.topic].partitions,
        facts[backends.topic].settings["max.message.bytes"],
    )
    assert ("-1", str(1_048_576 + 65_536)) == tuple(
        facts[f"{backends.group}.retry"].settings[k] for k in ("retention.ms", "max.message.bytes")
    )
    assert "LogAppendTime" == facts["headrace.delay.10s"].settings["message.timestamp.type"]
    assert {backends.group: {0: 0, 1: 0, 2: 0}} == await backends.admin.committed(
        {backends.group: backends.topic}
    )
    assert {"group.id": backends.group} == trigger["status"]["annotations"]
    routes = [*running.routing.table.addressables(), *running.routing.table.subscriptions()]
    assert {backends.topic} == {
        route.topic for route in routes if isinstance(route, Addressable | Subscription)
    }

    assert 200 == (await running.call("DELETE", f"{TRIGGERS.format(n)}/orders"))[0]
    await running.until_gone(f"{TRIGGERS.format(n)}/orders")
    assert 200 == (await running.call("DELETE", f"{BROKERS.format(n)}/default"))[0]
    await running.until_gone(f"{BROKERS.format(n)}/default")
    left = await backends.admin.describe(
        [backends.topic, f"{backends.group}.retry", f"{backends.group}.dead"]
    )
    assert [f"{backends.group}.dead"] == list(left)
    assert {backends.group: GroupState.ABSENT} == await backends.admin.groups([backends.group])


async def test_a_converged_installation_writes_nothing(running: RunningController) -> None:
    """After Ready neither a resource nor a routing record is written. Events may be: the recorder
    stores them later, in a loop of its own.
    """
    await running.make()
    await running.until_ready(f"{TRIGGERS.format(running.backends.namespace)}/orders")
    await wait_until_async(
        lambda: running.controller.loop.converged, 10, "nothing to be left to do"
    )
    written: list[Change] = []
    running.store.watch(written.extend)
    position = running.routing.table.position
    plan = await running.controller.loop.run_once()
    assert () == tuple(plan.steps)
    assert [] == [change for change in written if change.key.plural != EVENT.plural]
    assert position == running.routing.table.position


CONTROLLER_POINTS = [
    Failpoint.AFTER_TOPICS,
    Failpoint.AFTER_START_OFFSETS,
    Failpoint.AFTER_ROUTING_RECORD,
    Failpoint.AFTER_TOMBSTONE,
]


@pytest.mark.parametrize("point", CONTROLLER_POINTS)
async def test_a_controller_that_dies_there_is_carried_on_by_the_next(
    backends: KafkaBackends, point: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor reaches the same state: created resources are Ready, deleted ones are gone."""
    n = backends.namespace
    blown = asyncio.Event()
    armed = point is not Failpoint.AFTER_TOMBSTONE

    def crash(reached: Failpoint) -> None:
        if armed and reached is point and not blown.is_set():
            blown.set()
            raise asyncio.CancelledError  # The task of the loop ends here, as in a crash.

    monkeypatch.setattr(plan_executor, "failpoint", crash)
    monkeypatch.setattr(topic_backend, "failpoint", crash)
    first = RunningController(backends)
    await first.start()
    await wait_until_async(lambda: first.store.epoch is not None, 15, "the first to write")
    await first.make()
    if point is Failpoint.AFTER_TOMBSTONE:
        await first.until_ready(f"{TRIGGERS.format(n)}/orders")
        armed = True
        await first.call("DELETE", f"{TRIGGERS.format(n)}/orders")
    async with asyncio.timeout(15):
        await blown.wait()
    second = RunningController(backends)
    await second.start()
    try:
        if point is Failpoint.AFTER_TOMBSTONE:
            await second.until_gone(f"{TRIGGERS.format(n)}/orders")
        else:
            await second.until_ready(f"{TRIGGERS.format(n)}/orders")
        assert (
            first.store.epoch is None
            or second.store.epoch is None
            or first.store.epoch < second.store.epoch
        )
    finally:
        await first.stop()
        await second.stop()


async def test_of_two_controllers_one_works_and_the_other_takes_over(
    backends: KafkaBackends, running: RunningController
) -> None:
    """The standby answers reads, refuses writes with 503, and becomes the writer, in a later term,
    when the first controller is gone.
    """
    n = backends.namespace
    second = RunningController(backends, holder="two")
    await second.start()
    try:
        await running.make()
        await running.until_ready(f"{TRIGGERS.format(n)}/orders")
        await wait_until_async(
            lambda: len(second.store.list(CONFIG_MAP)) == 1,
            5,
            "the standby to read",
        )
        code, answer = await second.call(
            "POST", BROKERS.format(n), {"metadata": {"name": "other"}, "spec": {}}
        )
        assert (503, "ServiceUnavailable") == (code, answer["reason"])
        assert "controller one is the leader" in answer["message"]
        before = running.store.epoch
        await running.store.stop()
        await wait_until_async(lambda: second.store.epoch is not None, 15, "the second to write")
        assert before is not None
        assert (second.store.epoch or 0) > before
        assert 200 == (await second.call("DELETE", f"{TRIGGERS.format(n)}/orders"))[0]
        await second.until_gone(f"{TRIGGERS.format(n)}/orders")
    finally:
        await second.stop()


async def test_a_fenced_controller_notices_and_is_a_standby(
    backends: KafkaBackends, running: RunningController
) -> None:
    """A controller that was stopped for a while and replaced can no longer write, and reports
    that.
    """
    resources, _ = backends.topics
    usurper = TransactionalLog(backends.options, resources, transactional_id=f"{resources}.writer")
    await asyncio.to_thread(usurper.open)
    try:
        code, _ = await running.call(
            "POST", BROKERS.format("default"), {"metadata": {"name": "default"}, "spec": {}}
        )
        assert 503 == code
        assert running.store.epoch is None
        assert 200 == (await running.call("GET", BROKERS.format(backends.namespace)))[0]
    finally:
        await asyncio.to_thread(usurper.close)
