"""A whole installation in memory: store, topics, routing table, a data plane that only reads, and
the loop driven turn by turn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.adapters.memory.admin import MemoryGroup, MemoryTopicAdmin
from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.store import MemoryResources, MemoryResourceStore
from headrace.domain.ports import Instance
from headrace.resources.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.resources.resource import Resource, ResourceKind
from headrace_controller.backend_by_name import create_backend
from headrace_controller.event_schema_reader import Fetch, refuse_to_fetch
from headrace_controller.reconcile.backend import Backend
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.observed_state import Installation
from headrace_controller.reconcile.plan import Plan, Step
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.reconcile_loop import ReconcileLoop
from tests.support.api_admission import admit

NAMESPACE = "shop"


def manifest(
    kind: ResourceKind,
    name: str,
    *,
    namespace: str = NAMESPACE,
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> Resource:
    """A resource as a client would post it."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return Resource(
        kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}
    )


def broker(name: str = "default", **fields: Any) -> Resource:
    """A Broker."""
    fields.setdefault("spec", {})
    return manifest(BROKER, name, **fields)


def trigger(
    name: str = "orders",
    *,
    broker_name: str = "default",
    uri: str = "http://sink.example/",
    **fields: Any,
) -> Resource:
    """A Trigger with a URL for subscriber."""
    spec = {"broker": broker_name, "subscriber": {"uri": uri}, **fields.pop("spec", {})}
    return manifest(TRIGGER, name, spec=spec, **fields)


def config_map(name: str, data: Mapping[str, str], **fields: Any) -> Resource:
    """A ConfigMap."""
    return manifest(CONFIG_MAP, name, data=dict(data), **fields)


@dataclass
class ControllerHarness:
    """What lasts: everything but the controller's own memory. `restart` gives a controller that
    knows nothing.
    """

    clock: MemoryClock = field(default_factory=MemoryClock)
    resources: MemoryResources = field(default_factory=MemoryResources)
    admin: MemoryTopicAdmin = field(default_factory=lambda: MemoryTopicAdmin(brokers=3))
    routing: MemoryRoutingLog = field(default_factory=MemoryRoutingLog)
    installation: Installation = field(default_factory=Installation)
    reconcilers: Reconcilers = RECONCILERS
    backend: Backend | None = None
    """Kafka, with `admin`, if none is given."""
    services: tuple[str, ...] = ("ingress", "dispatcher")
    served: tuple[str, ...] = ("kafka", "in-memory")
    """The backends of the data plane."""
    applies: bool = True
    """Whether the data plane keeps up with the routing table."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What it says of its subscriptions, by uid."""
    schema_faults: Mapping[str, str] = field(default_factory=dict)
    """What it says of events that do not conform to a schema, by uid."""
    fetch_schema: Fetch = refuse_to_fetch
    events: list[tuple[str, str, str, str]] = field(default_factory=list)
    """The Kubernetes Events: name of the resource, type, reason, message."""

    async def restart(self) -> None:
        """Start, or start again after a crash: nothing of the old process is kept."""
        self.resources.waiting.clear()
        self.store = MemoryResourceStore(self.resources, clock=self.clock)
        await self.store.start()
        self.instances = MemoryInstances(self.clock)
        self.follower = MemoryRoutingReader(self.routing)
        await self.follower.start()
        self.loop = ReconcileLoop(
            installation=self.installation,
            store=self.store,
            backend=self.backend or create_backend(self.admin, self.clock),
            routing=self.follower,
            routes=MemoryRoutingWriter(self.routing),
            instances=self.instances,
            clock=self.clock,
            reconcilers=self.reconcilers,
            fetch_schema=self.fetch_schema,
            record_event=lambda regarding, *event: self.events.append((regarding.name, *event)),
        )
        await self.report()

    async def report(self) -> None:
        """The data plane says how far it has read."""
        applied = len(self.routing.records) - 1 if self.applies else -1
        for service in self.services:
            await self.instances.report(
                Instance(
                    service,
                    service,
                    applied,
                    0,
                    self.groups,
                    backends=self.served,
                    schema_faults=self.schema_faults,
                )
            )

    async def stop(self, service: str) -> None:
        """The processes of this service leave."""
        self.services = tuple(each for each in self.services if each != service)
        await self.instances.deregister(service)

    async def apply(self, *resources: Resource) -> None:
        """Create or replace, as through the API."""
        for each in resources:
            old = self.find(each.kind, each.name, each.namespace)
            if old is None:
                await self.store.create(admit(each))
            else:
                kept = {key: old.metadata[key] for key in ("finalizers",) if key in old.metadata}
                await self.store.replace(admit(each.with_metadata(**kept), old=old))

    async def delete(self, kind: ResourceKind, name: str, namespace: str = NAMESPACE) -> None:
        """Ask for a resource to be gone."""
        await self.store.delete(kind, namespace, name)

    def find(self, kind: ResourceKind, name: str, namespace: str = NAMESPACE) -> Resource | None:
        """A resource as it is now."""
        return next((each for each in self.store.list(kind, namespace) if each.name == name), None)

    def status(
        self, kind: ResourceKind, name: str, namespace: str = NAMESPACE
    ) -> Mapping[str, Any]:
        """Its status."""
        found = self.find(kind, name, namespace)
        assert found is not None, f"{kind.kind} {namespace}/{name} is there"
        return found.status

    def condition(self, kind: ResourceKind, name: str, type_: str = "Ready") -> tuple[str, str]:
        """(status, reason) of a condition."""
        entries = self.status(kind, name).get("conditions", ())
        entry: Mapping[str, str] = next((each for each in entries if each["type"] == type_), {})
        return entry.get("status", ""), entry.get("reason", "")

    def message(self, kind: ResourceKind, name: str, type_: str) -> str:
        """Message of a condition."""
        entries = self.status(kind, name).get("conditions", ())
        return next((str(each.get("message", "")) for each in entries if each["type"] == type_), "")

    async def run_once(self) -> Plan:
        """One turn of the loop, then the data plane reads on."""
        plan = await self.loop.run_once()
        await self.report()
        return plan

    async def settle(self, turns_max: int = 40) -> list[Step]:
        """Turns until one has nothing to do; all steps that were performed."""
        steps: list[Step] = []
        for _ in range(turns_max):
            plan = await self.run_once()
            if not plan.steps:
                return steps
            steps += plan.steps
        raise AssertionError(f"not settled after {turns_max} turns, still: {plan.steps}")

    async def resync(self) -> list[Step]:
        """Let time pass until topics are described again, and settle."""
        self.clock.advance(31.0)
        await self.report()
        return await self.settle()

    def routes(self) -> dict[str, Any]:
        """The routing table by key."""
        return self.loop.observer.routes()

    def group(self, name: str) -> MemoryGroup:
        """A consumer group."""
        return self.admin.groups_of.setdefault(name, MemoryGroup())

    def picture(self) -> dict[str, Any]:
        """What must come out the same however one got there: topics, groups, routes, statuses;
        without ids, versions and times.
        """
        names = {
            record.uid: f"{record.kind.plural}/{record.namespace}/{record.name}"
            for record in self._records()
        }
        return {
            "topics": {
                name: (facts.partitions, dict(facts.settings))
                for name, facts in self.admin.topics.items()
            },
            "groups": {name: group.offsets for name, group in self.admin.groups_of.items()},
            "routes": {
                _renamed(key, names): _route(route, names) for key, route in self.routes().items()
            },
            "resources": {
                names[record.uid]: (record.spec, record.finalizers, _without_times(record.status))
                for record in self._records()
                if record.kind.served
            },
        }

    def _records(self) -> Sequence[Resource]:
        return [record for kind in RECONCILERS.stored_kinds for record in self.store.list(kind)]


async def settled(*resources: Resource, **harness: Any) -> ControllerHarness:
    """An installation in which these resources were applied."""
    made = ControllerHarness(**harness)
    await made.restart()
    await made.apply(*resources)
    await made.settle()
    return made


def _renamed(key: str, names: Mapping[str, str]) -> str:
    return names.get(key.partition("/")[2], key)


def _route(route: Any, names: Mapping[str, str]) -> str:
    from dataclasses import replace

    return str(replace(route, epoch=0, uid=names.get(route.uid, route.uid)))


def _without_times(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {key: value for key, value in each.items() if key != "lastTransitionTime"}
        for each in status.get("conditions", ())
    ]
    return {**status, "conditions": conditions}


Predicate = Callable[[], bool]
