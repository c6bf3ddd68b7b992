"""The reconcile loop: look, decide, act; again until nothing is left to do, then wait for a change.

Looking is the only expensive part. Topics are described anew when a step touched them, when they
are unknown, and every half minute (somebody may have deleted one); groups only where the decision
needs them. One loop for all resources: deciding costs microseconds each, and every record for Kafka
or the store of one turn leaves in one write.
"""

import asyncio
from collections.abc import Collection
from dataclasses import replace

import structlog

from headrace.domain.errors import HeadraceError, NotFound, Permanent
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.ports import Clock, Instances, RoutingReader, RoutingWriter
from headrace.domain.routing import DELAYS_KEY, Route, route_key
from headrace.resources.control_ports import (
    ClusterDescription,
    ResourceStore,
    TopicAdmin,
    TopicDescription,
)
from headrace.resources.kinds import BROKER, EVENT_TYPE, OWNERSHIP_RECORD, STORE_IDENTITY, TRIGGER
from headrace.resources.ownership_record import OwnershipRecord, read_ownership_record
from headrace.resources.resource import Resource
from headrace.runtime.service import end_task
from headrace_controller.plan_executor import PlanExecutor, RecordEvent
from headrace_controller.reconcile import ObservedState, Plan, reconcile_in_slices
from headrace_controller.reconcile.group_queries import required_group_queries, topics_to_describe
from headrace_controller.reconcile.observed_state import Installation
from headrace_controller.reconcile.references import references
from headrace_controller.reconcile.validation import ResourceValidator
from headrace_controller.system_config import SystemConfigReader

log = structlog.stdlib.get_logger("headrace.controller")

_RESYNC_SECONDS = 30.0
_VERIFY_SECONDS = 300.0
_WAIT_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_ERROR_SECONDS = (0.5, 1.0, 2.0, 5.0)
_REFRESH_SECONDS = 10.0
_PRESENCE_SECONDS = 1.0
_TYPES_MAX = 20_000
_ITERATIONS_MAX = 200
"""Turns in a row that all act. A world that never settles is an internal error, which must be seen
and must not take a core.
"""


class ReconcileLoop:
    """Keeps Kafka, the routing table and the statuses as the resources ask, while this process is
    the writer.
    """

    def __init__(
        self,
        *,
        installation: Installation,
        store: ResourceStore,
        admin: TopicAdmin,
        routing: RoutingReader,
        routes: RoutingWriter,
        instances: Instances,
        clock: Clock,
        record_event: RecordEvent = lambda *_: None,
    ) -> None:
        self._installation = installation
        self._store = store
        self._admin = admin
        self._routing = routing
        self._instances = instances
        self._clock = clock
        self.executor = PlanExecutor(
            store=store, admin=admin, routes=routes, clock=clock, record_event=record_event
        )
        self._system_config = SystemConfigReader(store.find)
        self._validator = ResourceValidator()
        self._parsed_records: dict[str, tuple[Resource, OwnershipRecord]] = {}
        """Holdings by owner, as they were read at the last look."""
        self._seen_types: set[ObservedEventType] = set()
        self._changed = asyncio.Event()
        self._seen_presence: object = None
        self._task: asyncio.Task[None] | None = None
        self._term: int | None = None
        self._cluster = ClusterDescription("", 0)
        self._topics: dict[str, TopicDescription] = {}
        self._described_topics: set[str] = set()
        self._described_at = self._verified_at = float("-inf")
        self.turns = 0
        self.errors = 0
        self.waiting_for: tuple[str, ...] = ()
        """What the newest plan waits for."""
        self.converged = False
        """Whether the newest plan had nothing to do."""

    async def start(self) -> None:
        """Begin."""
        self._store.watch(self._on_change)
        self._routing.watch(self._on_change)
        self._task = asyncio.create_task(self._run(), name="reconcile")

    async def stop(self) -> None:
        """End; a step in hand is finished or given up, either is safe."""
        task, self._task = self._task, None
        await end_task(task)

    def _on_change(self, _changes: Collection[object]) -> None:
        self._changed.set()

    async def _run(self) -> None:
        idle, failures, busy = 0, 0, 0
        while True:
            self._changed.clear()
            pause: float = _RESYNC_SECONDS
            try:
                if self._store.epoch is not None:
                    plan = await self.run_once()
                    failures = 0
                    busy = busy + 1 if plan.steps else 0
                    if plan.steps and busy < _ITERATIONS_MAX:
                        idle = 0
                        continue
                    if busy >= _ITERATIONS_MAX:
                        log.error(
                            "the world does not settle",
                            turns=busy,
                            steps=sorted({type(step).__name__ for step in plan.steps}),
                        )
                    pause = self._pause(plan, idle)
                    idle += 1
            except HeadraceError as error:
                self.errors += 1
                pause = _ERROR_SECONDS[min(failures, len(_ERROR_SECONDS) - 1)]
                failures += 1
                log.warning("reconcile failed, trying again", error=str(error), seconds=pause)
            except Exception:
                # One bad object must not end the control plane in silence; the next change or
                # resync tries again.
                self.errors += 1
                pause = _ERROR_SECONDS[-1]
                log.exception("reconcile failed by an internal error")
            if await self._wait_for_change(pause):
                idle = 0

    async def _wait_for_change(self, seconds: float) -> bool:
        """Wait until something changed (True) or the time is over: a resource, a route, or who is
        alive and what ails them.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, _PRESENCE_SECONDS)):
                    await self._changed.wait()
                    return True
            except TimeoutError:
                if self._store.epoch is not None and self._presence() != self._seen_presence:
                    return True
        return False

    def _presence(self) -> object:
        """Who is alive and what they say of their subscriptions; what they have applied is left
        out, it changes with every record.

        Of the types they have seen only those count that no turn has looked at yet: a process tells
        its own again and again.
        """
        live = self._instances.live()
        new = not self._seen_types.issuperset(seen for each in live for seen in each.types)
        return new, sorted((each.id, each.service, sorted(each.groups.items())) for each in live)

    def _mark_types_seen(self, observed: ObservedState) -> None:
        if len(self._seen_types) > _TYPES_MAX:
            self._seen_types.clear()
        self._seen_types.update(seen for each in observed.instances for seen in each.types)

    def _pause(self, plan: Plan, idle: int) -> float:
        pause = (
            _WAIT_SECONDS[min(idle, len(_WAIT_SECONDS) - 1)]
            if plan.waiting_for
            else _RESYNC_SECONDS
        )
        now = self._clock.now()
        due = [rejection.retry_at for rejection in self.executor.rejections.values()]
        if plan.requeue_at is not None:
            due.append(plan.requeue_at)
        return max(0.01, min([pause, *(at - now for at in due if at > now)]))

    async def run_once(self) -> Plan:
        """Look, decide, act once; the plan that was performed."""
        observed = await self.observe()
        plan = await _decide(observed)
        plan = replace(plan, steps=tuple(self.executor.executable(plan.steps)))
        self.turns += 1
        self._mark_types_seen(observed)
        self._log_errors(plan)
        self.waiting_for, self.converged = (
            tuple(plan.waiting_for),
            not plan.steps and not plan.waiting_for,
        )
        await self.executor.execute(plan.steps)
        return plan

    def _log_errors(self, plan: Plan) -> None:
        """Say what could not be decided: one bad object must neither hold up the others nor be
        passed over in silence.
        """
        for resource, error in plan.internal_errors:
            self.errors += 1
            about = {
                "kind": resource.kind.kind,
                "namespace": resource.namespace,
                "name": resource.name,
            }
            log.error(
                "a resource cannot be reconciled, by a mistake of ours", exc_info=error, **about
            )

    async def observe(self) -> ObservedState:
        """Everything a decision needs, as it is now."""
        epoch = self._store.epoch
        if epoch is None or epoch != self._term:
            await self._begin_term(epoch)
        self._seen_presence = self._presence()
        ownership_records = self._ownership_records()
        await self._describe(topics_to_describe(ownership_records.values()))
        observed = self._observed_state(epoch or 0, ownership_records)
        verify = self._clock.monotonic() - self._verified_at > _VERIFY_SECONDS
        queries = required_group_queries(observed, verify=verify)
        if verify:
            self._verified_at = self._clock.monotonic()
        if not queries.committed and not queries.states:
            return observed  # Nothing was awaited since it was put together.
        committed = await self._admin.committed(queries.committed) if queries.committed else {}
        states = await self._admin.groups(queries.states) if queries.states else {}
        return self._observed_state(
            epoch or 0, ownership_records, committed=dict(committed), groups=dict(states)
        )

    async def _begin_term(self, epoch: int | None) -> None:
        """Begin a term: see the routing table as it is now, and nothing of what an earlier term
        remembers.
        """
        self.executor.reset()
        self._described_at = self._verified_at = float("-inf")
        if not await self._routing.refresh(_REFRESH_SECONDS):
            log.warning("the routing table could not be read to its end yet")
        await self._check_store_identity()
        self._term = epoch

    async def _check_store_identity(self) -> None:
        """Make sure that the topics here belong to the resources that are read here: those of
        others would count as gone.

        Raises Permanent when they do not.
        """
        here = self._store.identity
        try:
            record = self._store.get(STORE_IDENTITY, "", "source")
        except NotFound:
            await self._store.create(store_identity_record(here))
            return
        found = str(record.spec.get("source"))
        if found == here:
            return
        if not self._installation.adopts_store:
            raise Permanent(
                f"the topics of this Kafka belong to the resources of {found}, and here are those"
                f" of {here}: nothing is done, they would count as topics whose owners are gone."
                " Choose another Kafka or cluster, or set HEADRACE_CONTROLLER_ADOPT_STORE=true"
            )
        log.warning("topics are taken over from other resources", before=found, now=here)
        await self._store.replace(store_identity_record(here))

    async def _describe(self, names: set[str]) -> None:
        now = self._clock.monotonic()
        if now - self._described_at > _RESYNC_SECONDS:
            self._cluster = await self._admin.cluster()
            self._described_at = now
            wanted = names
        else:
            wanted = (names & self.executor.stale_topics) | (names - self._described_topics)
        if wanted:
            found = await self._admin.describe(wanted)
            self.executor.stale_topics -= wanted
            self._topics = {
                name: facts for name, facts in self._topics.items() if name not in wanted
            } | dict(found)
        self._described_topics = names

    def _observed_state(
        self,
        epoch: int,
        ownership_records: dict[str, OwnershipRecord],
        **answers: dict[str, object],
    ) -> ObservedState:
        system, validation_errors = self._system_config.read(), dict[str, str]()
        brokers, triggers, event_types = (
            self._validator.default_and_validate(self._store.list(kind), system, validation_errors)
            for kind in (BROKER, TRIGGER, EVENT_TYPE)
        )
        named = references(
            brokers, triggers, event_types, services=not self._installation.in_cluster
        )
        return ObservedState(
            installation=self._installation,
            now=self._clock.now(),
            epoch=epoch,
            cluster=self._cluster,
            brokers=brokers,
            triggers=triggers,
            event_types=event_types,
            validation_errors=validation_errors,
            system=system,
            system_problems=dict(self._system_config.problems),
            referenced=[found for each in named if (found := self._store.find(each)) is not None],
            unreadable=self._store.track_kinds({(each.api_version, each.kind) for each in named}),
            ownership_records=ownership_records,
            topics=self._topics,
            routes=self._routes(),
            removals=self._applied_removals(),
            route_positions=dict(self.executor.positions),
            routes_end=self._routing.table.position,
            instances=self._instances.live(),
            rejections=dict(self.executor.rejections),
            **answers,  # type: ignore[arg-type]
        )

    def _ownership_records(self) -> dict[str, OwnershipRecord]:
        found: dict[str, tuple[Resource, OwnershipRecord]] = {}
        for record in self._store.list(OWNERSHIP_RECORD):
            known = self._parsed_records.get(record.name)
            try:
                found[record.name] = (
                    known
                    if known is not None and known[0] is record
                    else (record, read_ownership_record(record))
                )
            except (ValueError, KeyError, TypeError) as error:
                # Written by a newer version: leaving its names unknown could give them out twice.
                raise _unreadable_record(record, error) from error
        self._parsed_records = found
        return {name: ownership for name, (_, ownership) in found.items()}

    def _routes(self) -> dict[str, Route]:
        table = self._routing.table
        delays = table.delays()
        known: list[Route] = [*table.addressables(), *table.subscriptions()]
        routes = {route_key(each): each for each in known}
        if delays is not None:
            routes[DELAYS_KEY] = delays
        # Our own newest writes may not have come back through the log yet.
        for key, route in self.executor.written.items():
            if self.executor.positions[key] <= table.position:
                continue
            if route is None:
                routes.pop(key, None)
            else:
                routes[key] = route
        return routes

    def _applied_removals(self) -> dict[str, int]:
        """Removals that have come back through the log, and that we have written nothing after."""
        table, positions = self._routing.table, self.executor.positions
        return {
            key: epoch
            for key, epoch in table.removals.items()
            if positions.get(key, -1) <= table.position
        }


async def _decide(observed: ObservedState) -> Plan:
    """Decide, and let others of this loop have their turns meanwhile; the world is a value and does
    not change under it.
    """
    for plan in reconcile_in_slices(observed):
        if plan is not None:
            return plan
        await asyncio.sleep(0)
    raise AssertionError("deciding ends with a plan")


def store_identity_record(source: str) -> Resource:
    """The record that says whose topics are in this Kafka."""
    return Resource(
        STORE_IDENTITY,
        {
            "apiVersion": STORE_IDENTITY.api_version,
            "kind": STORE_IDENTITY.kind,
            "metadata": {"name": "source"},
            "spec": {"source": source},
        },
    )


def _unreadable_record(record: Resource, error: Exception) -> HeadraceError:
    return HeadraceError(
        f"the record of owner {record.name} cannot be read ({error}); it may be a newer version's:"
        " run that version"
    )
