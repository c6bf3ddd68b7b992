"""Executes the steps of a plan. A step that fails is remembered: the next reconcile
shows the failure in a status, and waits.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from headrace.codec import routing as routing_codec
from headrace.domain.errors import Conflict, Fenced, NotFound, Permanent
from headrace.domain.ports import Clock, RoutingWriter
from headrace.domain.routing import RemovedRoute, Route, route_key
from headrace.resources.control_ports import ResourceStore
from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.ownership_record import ownership_record_resource
from headrace.resources.resource import AlreadyExists, NamespaceTerminating, NotLeader, Resource
from headrace.resources.resource_rules import Precondition
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_controller.condition_events import condition_events
from headrace_controller.failed_steps import FailedSteps
from headrace_controller.reconcile.backend import Backend
from headrace_controller.reconcile.objects import object_name, subscriber_name
from headrace_controller.reconcile.observed_state import FINALIZER, StepFailure
from headrace_controller.reconcile.plan import (
    AddFinalizer,
    ApplyObject,
    CreateObject,
    DeleteObject,
    DeleteOwnershipRecord,
    PutRoute,
    PutSubscriber,
    RemoveFinalizer,
    RemoveRoute,
    RemoveSubscriber,
    ReplaceObject,
    SaveOwnershipRecord,
    SetStatus,
    Step,
    WriteTombstone,
)
from headrace_controller.subscriber_lists import (
    Admit,
    SubscriberList,
    admit_unchanged,
    subscriber_lists,
)

logger = structlog.get_logger(__name__)

_WRITES_IN_FLIGHT_MAX = 100
"""Concurrent writes to the store; the store groups them."""

StoreStep = (
    SaveOwnershipRecord
    | DeleteOwnershipRecord
    | AddFinalizer
    | RemoveFinalizer
    | CreateObject
    | ApplyObject
    | ReplaceObject
    | DeleteObject
    | PutSubscriber
    | RemoveSubscriber
    | SetStatus
)
RecordEvent = Callable[[Resource, str, str, str], None]
"""Records a Kubernetes Event about a resource: type (Normal or Warning), reason, message."""


class PlanExecutor:
    """Writes to the store, to the backend and to the routing table, and keeps the results."""

    def __init__(
        self,
        *,
        store: ResourceStore,
        backend: Backend,
        routes: RoutingWriter,
        clock: Clock,
        record_event: RecordEvent = lambda *_: None,
        admit: Admit = admit_unchanged,
    ) -> None:
        """`record_event` is called with the `condition_events` of each new status; `admit` checks
        objects of other controllers' kinds before they are stored.
        """
        self._record_event = record_event
        self._admit = admit
        self._store = store
        self._backend = backend
        self._routes = routes
        self._failed_steps = FailedSteps(clock)
        self.positions: dict[str, int] = {}
        """By key, the position in the routing log of this process's newest write."""
        self.written: dict[str, Route | None] = {}
        """By key, what was written there."""

    @property
    def failed_steps(self) -> Mapping[str, StepFailure]:
        """The steps that have failed, by name of topic, group or object."""
        return {**self._backend.failed_steps, **self._failed_steps.current}

    def reset(self) -> None:
        """Drop everything remembered, at the start of a term: earlier failures and writes may be
        outdated.
        """
        self._failed_steps.clear()
        self._backend.reset()
        self.positions.clear()
        self.written.clear()

    async def execute(self, steps: Sequence[Step]) -> None:
        """Execute the steps of one plan: creations before deletions, statuses last.

        Raises NotLeader or LogUnavailable if the store cannot be written; what was not executed is
        planned again.
        """
        await self._write_all(
            [step for step in steps if isinstance(step, AddFinalizer | SaveOwnershipRecord)]
        )
        await self._backend.create(steps)
        await self._write_routes(steps)
        if self._store.epoch is None:
            raise NotLeader(
                "this controller is no longer the leader; deletions are left to the new leader"
            )
        await self._backend.delete(steps)
        await self._write_all(
            [step for step in steps if isinstance(step, DeleteOwnershipRecord | RemoveFinalizer)]
        )
        await self._write_all(
            [
                step
                for step in steps
                if isinstance(step, CreateObject | ApplyObject | ReplaceObject | DeleteObject)
            ]
        )
        await self._write_all(subscriber_lists(steps))
        await self._write_all([step for step in steps if isinstance(step, SetStatus)])

    def executable(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that can be executed now: not those about an object for which one has just
        failed. Interim statuses are left out, unless something is.
        """
        found = [
            step
            for step in steps
            if not isinstance(step, StoreStep) or not self._failed_steps.blocks(step_object(step))
        ]
        if len(found) < len(steps):
            return found
        return [step for step in found if not (isinstance(step, SetStatus) and step.interim)]

    async def _write_all(self, steps: Sequence[StoreStep | SubscriberList]) -> None:
        for start in range(0, len(steps), _WRITES_IN_FLIGHT_MAX):
            results = await asyncio.gather(
                *(self._write_one(step) for step in steps[start : start + _WRITES_IN_FLIGHT_MAX]),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _write_one(self, step: StoreStep | SubscriberList) -> None:
        """Execute one step. A permanent error concerns this object only: the other steps are
        executed, this one is retried later.
        """
        names = step.names if isinstance(step, SubscriberList) else [step_object(step)]
        try:
            await self._write(step)
        except (NotFound, Conflict, AlreadyExists):
            # Another client has written first. The next reconcile sees what it wrote.
            return
        except NamespaceTerminating as error:
            # Temporary: the namespace is deleted with everything in it.
            self._failed_steps.update(names, dict.fromkeys(names, str(error)), expected=True)
        except Permanent as error:
            if isinstance(error, Fenced):
                raise
            self._failed_steps.update(names, dict.fromkeys(names, str(error)))
        else:
            self._failed_steps.update(names, {})

    async def _write(self, step: StoreStep | SubscriberList) -> None:
        match step:
            case SubscriberList():
                await step.write(self._store, self._stored(step.channel), self._admit)
            case SaveOwnershipRecord(ownership):
                record = ownership_record_resource(ownership)
                try:
                    await self._store.replace(record)
                except NotFound:
                    await self._store.create(record)
            case DeleteOwnershipRecord(uid):
                await self._store.delete(OWNERSHIP_RECORD, "", uid)
            case AddFinalizer(resource, delivery):
                stored = self._stored(resource)
                shown = _with_delivery(stored, delivery)
                await self._store.replace(
                    shown.with_metadata(finalizers=[*stored.finalizers, FINALIZER])
                )
            case RemoveFinalizer(resource):
                stored = self._stored(resource)
                left = [each for each in stored.finalizers if each != FINALIZER]
                await self._store.replace(stored.with_metadata(finalizers=left or None))
                logger.info(
                    "resource_finalized",
                    kind=resource.kind.kind,
                    namespace=resource.namespace,
                    name=resource.name,
                )
            case CreateObject(resource):
                await self._store.create(self._admit(resource, None))
            case ApplyObject(resource):
                await self._store.apply(resource)
            case ReplaceObject(resource):
                await self._store.replace(resource)
            case DeleteObject(resource):
                await self._store.delete(
                    resource.kind,
                    resource.namespace,
                    resource.name,
                    precondition=Precondition(uid=resource.uid),
                )
            case SetStatus(resource, status, _):
                await self._store.replace_status(resource.with_status(status))
                for event in condition_events(resource, status):
                    self._record_event(resource, *event)

    def _stored(self, decided: Resource) -> Resource:
        """The object as its owner wrote it: the one that was decided on has defaults that must not
        be stored.

        Raises NotFound if it is gone, or replaced by another object of the same name.
        """
        stored = self._store.get(decided.kind, decided.namespace, decided.name)
        if stored.uid != decided.uid:
            raise NotFound(
                f"{decided.kind.kind} {decided.namespace}/{decided.name} is another object now"
            )
        return stored

    async def _write_routes(self, steps: Sequence[Step]) -> None:
        routes: dict[str, Route | None] = {}
        for step in steps:
            match step:
                case PutRoute(route):
                    routes[route_key(route)] = route
                case RemoveRoute(key):
                    routes[key] = None
        removed = RemovedRoute(epoch=self._store.epoch or 0)
        records: dict[str, bytes | None] = {
            key: routing_codec.write(removed if route is None else route)
            for key, route in routes.items()
        }
        for step in steps:
            if isinstance(step, WriteTombstone) and step.key not in routes:
                routes[step.key] = records[step.key] = None
        if not routes:
            return
        position = await self._routes.write(records)
        self.positions.update(dict.fromkeys(records, position))
        self.written.update(routes)
        failpoint(Failpoint.AFTER_ROUTING_RECORD)
        if None in routes.values():
            failpoint(Failpoint.AFTER_TOMBSTONE)


def _with_delivery(stored: Resource, delivery: Mapping[str, Any] | None) -> Resource:
    """The object with this `spec.delivery`, unless its owner set one."""
    spec = stored.object.get("spec") or {}
    if delivery is None or spec.get("delivery") is not None:
        return stored
    return Resource(stored.kind, {**stored.object, "spec": {**spec, "delivery": dict(delivery)}})


def step_object(step: StoreStep) -> str:
    """The object that a step is about, as the key of failed steps: kind, namespace and name."""
    match step:
        case SaveOwnershipRecord(ownership):
            return f"OwnershipRecord {ownership.uid}"
        case DeleteOwnershipRecord(uid):
            return f"OwnershipRecord {uid}"
        case PutSubscriber(channel, uid) | RemoveSubscriber(channel, uid):
            return subscriber_name(channel, uid)
        case _:
            return object_name(step.resource)
