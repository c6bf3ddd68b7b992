"""Executes the steps of a plan. What Kafka or the store rejects is remembered: the next reconcile
shows it in a status, and waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from headrace.codec import routing as routing_codec
from headrace.domain.errors import Conflict, Fenced, HeadraceError, NotFound, Permanent
from headrace.domain.ports import Clock, RoutingWriter
from headrace.domain.routing import Removal, Route, route_key
from headrace.resources.conditions import READY, ConditionStatus, condition_of
from headrace.resources.control_ports import ResourceStore, TopicAdmin
from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.ownership_record import ownership_record_resource
from headrace.resources.resource import AlreadyExists, NamespaceTerminating, NotLeader, Resource
from headrace.resources.resource_rules import Precondition
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_controller.reconcile.observed_state import FINALIZER, StepRejection
from headrace_controller.reconcile.plan import (
    AddFinalizer,
    AddPartitions,
    AlterTopic,
    ApplyObject,
    CommitInitialOffsets,
    CreateObject,
    CreateTopic,
    DeleteGroup,
    DeleteObject,
    DeleteOwnershipRecord,
    DeleteTopic,
    PutRoute,
    RemoveFinalizer,
    RemoveRoute,
    SaveOwnershipRecord,
    SetStatus,
    Step,
    WriteTombstone,
)

logger = structlog.get_logger(__name__)

_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
_WRITES_IN_FLIGHT_MAX = 64
"""Concurrent writes to the store; the store groups them."""

StoreStep = (
    SaveOwnershipRecord
    | DeleteOwnershipRecord
    | AddFinalizer
    | RemoveFinalizer
    | CreateObject
    | ApplyObject
    | DeleteObject
    | SetStatus
)
S = TypeVar("S")
RecordEvent = Callable[[Resource, str, str, str], None]
"""Records a Kubernetes Event about a resource: type (Normal or Warning), reason, message."""


class PlanExecutor:
    """Writes to the store, to Kafka's topics and groups, and to the routing table, and keeps the
    results.
    """

    def __init__(
        self,
        *,
        store: ResourceStore,
        admin: TopicAdmin,
        routes: RoutingWriter,
        clock: Clock,
        record_event: RecordEvent = lambda *_: None,
    ) -> None:
        """`record_event` is called when a resource becomes ready or stops being ready."""
        self._record_event = record_event
        self._store = store
        self._admin = admin
        self._routes = routes
        self._clock = clock
        self._failures: dict[str, int] = {}
        self.rejections: dict[str, StepRejection] = {}
        """By topic, group or object name, what was rejected and when it is retried."""
        self.positions: dict[str, int] = {}
        """By key, the position in the routing log of this process's newest write."""
        self.written: dict[str, Route | None] = {}
        """By key, what was written there."""
        self.stale_topics: set[str] = set()
        """Topics that have changed since they were described; emptied when they are described
        again.
        """

    def reset(self) -> None:
        """Drop everything remembered, at the start of a term: earlier rejections and writes may be
        outdated.
        """
        for memory in (self._failures, self.rejections, self.positions, self.written):
            memory.clear()

    async def execute(self, steps: Sequence[Step]) -> None:
        """Execute the steps of one plan: creations before deletions, statuses last.

        Raises NotLeader or LogUnavailable if the store cannot be written; what was not executed is
        planned again.
        """
        await self._write_all(
            [step for step in steps if isinstance(step, AddFinalizer | SaveOwnershipRecord)]
        )
        await self._topics(steps)
        for step in steps:
            if isinstance(step, CommitInitialOffsets):
                await self._commit_initial_offsets(step)
        await self._write_routes(steps)
        if self._store.epoch is None:
            raise NotLeader(
                "this controller is no longer the leader; deletions are left to the new leader"
            )
        await self._delete_groups([step.group for step in steps if isinstance(step, DeleteGroup)])
        await self._delete_topics([step.topic for step in steps if isinstance(step, DeleteTopic)])
        await self._write_all(
            [step for step in steps if isinstance(step, DeleteOwnershipRecord | RemoveFinalizer)]
        )
        await self._write_all(
            [step for step in steps if isinstance(step, CreateObject | ApplyObject | DeleteObject)]
        )
        await self._write_all([step for step in steps if isinstance(step, SetStatus)])

    def executable(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that can be executed now: not those about an object for which the store has
        just rejected one.
        """
        return [
            step
            for step in steps
            if not isinstance(step, StoreStep) or not self._is_rejected(object_name(step))
        ]

    def _is_rejected(self, name: str) -> bool:
        rejection = self.rejections.get(name)
        return rejection is not None and rejection.retry_at > self._clock.now()

    async def _write_all(self, steps: Sequence[StoreStep]) -> None:
        for start in range(0, len(steps), _WRITES_IN_FLIGHT_MAX):
            results = await asyncio.gather(
                *(self._write_one(step) for step in steps[start : start + _WRITES_IN_FLIGHT_MAX]),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _write_one(self, step: StoreStep) -> None:
        """Execute one step. A permanent rejection concerns this object only: the other steps are
        executed, this one is retried later.
        """
        name = object_name(step)
        try:
            await self._write(step)
        except (NotFound, Conflict, AlreadyExists):
            # Another client has written first. The next reconcile sees what it wrote.
            return
        except NamespaceTerminating as error:
            # Temporary: the namespace is deleted with everything in it.
            self._update_rejections([name], {name: str(error)}, expected=True)
        except Permanent as error:
            if isinstance(error, Fenced):
                raise
            self._update_rejections([name], {name: str(error)})
        else:
            self._update_rejections([name], {})

    async def _write(self, step: StoreStep) -> None:
        match step:
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
                await self._store.create(resource)
            case ApplyObject(resource):
                await self._store.apply(resource)
            case DeleteObject(resource):
                await self._store.delete(
                    resource.kind,
                    resource.namespace,
                    resource.name,
                    precondition=Precondition(uid=resource.uid),
                )
            case SetStatus(resource, status):
                await self._store.replace_status(resource.with_status(status))
                self._record_readiness_event(resource, status)

    def _record_readiness_event(self, resource: Resource, status: Mapping[str, Any]) -> None:
        before, after = condition_of(resource.status, READY), condition_of(status, READY)
        if after is None or after == before:
            return
        if after.status is ConditionStatus.TRUE:
            self._record_event(
                resource, "Normal", f"{resource.kind.kind}Ready", f"{resource.kind.kind} is ready"
            )
        elif after.status is ConditionStatus.FALSE:
            self._record_event(
                resource,
                "Warning",
                after.reason or "NotReady",
                after.message or f"{resource.kind.kind} is not ready",
            )

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

    async def _topics(self, steps: Sequence[Step]) -> None:
        new = [step.topic for step in steps if isinstance(step, CreateTopic)]
        if new:
            names = [topic.name for topic in new]
            self.stale_topics.update(names)
            refused = await self._call(names, self._admin.create(new), {})
            self._update_rejections(names, refused)
            failpoint(Failpoint.AFTER_TOPICS)
        for step in steps:
            match step:
                case AddPartitions(topic, total):
                    await self._change_topic(topic, self._admin.add_partitions(topic, total))
                case AlterTopic(topic, settings):
                    logger.info("topic_settings_corrected", topic=topic, settings=dict(settings))
                    await self._change_topic(topic, self._admin.alter(topic, settings))

    async def _change_topic(self, topic: str, call: Awaitable[None]) -> None:
        self.stale_topics.add(topic)
        await self._call([topic], call, None)

    async def _commit_initial_offsets(self, step: CommitInitialOffsets) -> None:
        async def commit() -> None:
            ends = (
                (await self._admin.ends({step.topic: step.at_end})).get(step.topic, {})
                if step.at_end
                else {}
            )
            await self._admin.commit(
                step.group, step.topic, {**ends, **dict.fromkeys(step.at_beginning, 0)}
            )

        await self._call([step.group], commit(), None)
        failpoint(Failpoint.AFTER_START_OFFSETS)

    async def _write_routes(self, steps: Sequence[Step]) -> None:
        routes: dict[str, Route | None] = {}
        for step in steps:
            match step:
                case PutRoute(route):
                    routes[route_key(route)] = route
                case RemoveRoute(key):
                    routes[key] = None
        removal = Removal(epoch=self._store.epoch or 0)
        records: dict[str, bytes | None] = {
            key: routing_codec.write(removal if route is None else route)
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

    async def _delete_groups(self, groups: Sequence[str]) -> None:
        if groups:
            self._update_rejections(
                groups, await self._call(groups, self._admin.delete_groups(groups), {})
            )

    async def _delete_topics(self, topics: Sequence[str]) -> None:
        if topics:
            self.stale_topics.update(topics)
            logger.info("topics_deleted", topics=list(topics))
            self._update_rejections(
                topics, await self._call(topics, self._admin.delete(topics), {})
            )

    async def _call(self, names: Sequence[str], call: Awaitable[S], otherwise: S) -> S:
        """Await a call about `names`; if it fails, it counts as rejected for all of them."""
        try:
            result = await call
        except HeadraceError as error:
            self._update_rejections(names, dict.fromkeys(names, str(error)))
            return otherwise
        if otherwise is None:
            self._update_rejections(names, {})
        return result

    def _update_rejections(
        self, names: Sequence[str], refused: Mapping[str, str], *, expected: bool = False
    ) -> None:
        for name in names:
            if name not in refused:
                # A call that failed as a whole has recorded rejections already; this must not count
                # as its success.
                if (
                    self.rejections.get(name) is None
                    or self.rejections[name].retry_at <= self._clock.now()
                ):
                    self.rejections.pop(name, None)
                    self._failures.pop(name, None)
                continue
            count = self._failures.get(name, 0)
            self._failures[name] = count + 1
            retry_at = self._clock.now() + _BACKOFF_SECONDS[min(count, len(_BACKOFF_SECONDS) - 1)]
            self.rejections[name] = StepRejection(refused[name], retry_at)
            (logger.debug if expected else logger.warning)(
                "step_rejected",
                about=name,
                error=refused[name],
                attempts=count + 1,
                retry_seconds=retry_at - self._clock.now(),
            )


def _with_delivery(stored: Resource, delivery: Mapping[str, Any] | None) -> Resource:
    """The object with this `spec.delivery`, unless its owner set one."""
    spec = stored.object.get("spec") or {}
    if delivery is None or spec.get("delivery") is not None:
        return stored
    return Resource(stored.kind, {**stored.object, "spec": {**spec, "delivery": dict(delivery)}})


def object_name(step: StoreStep) -> str:
    """The object that a step is about, as the key of rejections: kind, namespace and name."""
    match step:
        case SaveOwnershipRecord(ownership):
            return f"OwnershipRecord {ownership.uid}"
        case DeleteOwnershipRecord(uid):
            return f"OwnershipRecord {uid}"
        case _:
            return f"{step.resource.kind.kind} {step.resource.namespace}/{step.resource.name}"
