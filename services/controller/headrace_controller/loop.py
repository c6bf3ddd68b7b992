"""The reconcile loop: look, decide, act; again until nothing is left to do, then wait for a change.

Looking is the only expensive part. Topics are described anew when a step touched them, when they are unknown, and every half minute
(somebody may have deleted one); groups only where the decision needs them. One loop for all resources: deciding costs microseconds each,
and every record for Kafka or the store of one turn leaves in one write.
"""

import asyncio
from collections.abc import Collection
from dataclasses import replace

import structlog

from headrace.domain.errors import HeadraceError, NotFound, Permanent
from headrace.domain.ports import Clock, Instances, RoutingFollower, RoutingWriter
from headrace.domain.routing import DELAYS_KEY, Route, route_key
from headrace.domain.seen_types import SeenType
from headrace.resources.control_ports import ClusterFacts, ResourceStore, TopicAdmin, TopicFacts
from headrace.resources.holding import Holding, read_holding
from headrace.resources.kinds import BROKER, EVENT_TYPE, HOLDING, SOURCE, TRIGGER
from headrace.resources.resource import Resource
from headrace.runtime.service import end_task
from headrace_controller.perform import Performer, Tell
from headrace_controller.reconcile import Plan, World, deciding
from headrace_controller.reconcile.judgement import Judge
from headrace_controller.reconcile.questions import groups_to_ask, topics_to_describe
from headrace_controller.reconcile.references import references
from headrace_controller.reconcile.world import Installation
from headrace_controller.system_config import SystemConfigReader

log = structlog.stdlib.get_logger("headrace.controller")

_RESYNC_SECONDS = 30.0
_VERIFY_SECONDS = 300.0
_WAIT_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_ERROR_SECONDS = (0.5, 1.0, 2.0, 5.0)
_REFRESH_SECONDS = 10.0
_PRESENCE_SECONDS = 1.0
_TYPES_MAX = 20_000
_TURNS_MAX = 200
"""Turns in a row that all act. A world that never settles is an internal error, which must be seen and must not take a core."""


class ReconcileLoop:
    """Keeps Kafka, the routing table and the statuses as the resources ask, while this process is the writer."""

    def __init__(
        self,
        *,
        installation: Installation,
        store: ResourceStore,
        admin: TopicAdmin,
        routing: RoutingFollower,
        routes: RoutingWriter,
        instances: Instances,
        clock: Clock,
        tell: Tell = lambda *_: None,
    ) -> None:
        self._installation = installation
        self._store = store
        self._admin = admin
        self._routing = routing
        self._instances = instances
        self._clock = clock
        self.performer = Performer(store=store, admin=admin, routes=routes, clock=clock, tell=tell)
        self._system = SystemConfigReader(store.find)
        self._judge = Judge()
        self._read: dict[str, tuple[Resource, Holding]] = {}
        """Holdings by owner, as they were read at the last look."""
        self._told_types: set[SeenType] = set()
        self._changed = asyncio.Event()
        self._seen_presence: object = None
        self._task: asyncio.Task[None] | None = None
        self._term: int | None = None
        self._cluster = ClusterFacts("", 0)
        self._topics: dict[str, TopicFacts] = {}
        self._described: set[str] = set()
        self._described_at = self._verified_at = float("-inf")
        self.turns = 0
        self.errors = 0
        self.waits: tuple[str, ...] = ()
        """What the newest plan waits for."""
        self.converged = False
        """Whether the newest plan had nothing to do."""

    async def start(self) -> None:
        """Begin."""
        self._store.watch(self._wake)
        self._routing.watch(self._wake)
        self._task = asyncio.create_task(self._run(), name="reconcile")

    async def stop(self) -> None:
        """End; a step in hand is finished or given up, either is safe."""
        task, self._task = self._task, None
        await end_task(task)

    def _wake(self, _changes: Collection[object]) -> None:
        self._changed.set()

    async def _run(self) -> None:
        idle, failures, busy = 0, 0, 0
        while True:
            self._changed.clear()
            pause: float = _RESYNC_SECONDS
            try:
                if self._store.epoch is not None:
                    plan = await self.turn()
                    failures = 0
                    busy = busy + 1 if plan.steps else 0
                    if plan.steps and busy < _TURNS_MAX:
                        idle = 0
                        continue
                    if busy >= _TURNS_MAX:
                        log.error("the world does not settle", turns=busy, steps=sorted({type(step).__name__ for step in plan.steps}))
                    pause = self._pause(plan, idle)
                    idle += 1
            except HeadraceError as error:
                self.errors += 1
                pause = _ERROR_SECONDS[min(failures, len(_ERROR_SECONDS) - 1)]
                failures += 1
                log.warning("reconcile failed, trying again", error=str(error), seconds=pause)
            except Exception:
                # One bad object must not end the control plane in silence; the next change or resync tries again.
                self.errors += 1
                pause = _ERROR_SECONDS[-1]
                log.exception("reconcile failed by an internal error")
            if await self._rest(pause):
                idle = 0

    async def _rest(self, seconds: float) -> bool:
        """Wait until something changed (True) or the time is over: a resource, a route, or who is alive and what ails them."""
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
        """Who is alive and what they say of their subscriptions; what they have applied is left out, it changes with every record.

        Of the types they have seen only those count that no turn has looked at yet: a process tells its own again and again.
        """
        live = self._instances.live()
        new = not self._told_types.issuperset(seen for each in live for seen in each.types)
        return new, sorted((each.id, each.service, sorted(each.groups.items())) for each in live)

    def _look_at_types(self, world: World) -> None:
        if len(self._told_types) > _TYPES_MAX:
            self._told_types.clear()
        self._told_types.update(seen for each in world.instances for seen in each.types)

    def _pause(self, plan: Plan, idle: int) -> float:
        pause = _WAIT_SECONDS[min(idle, len(_WAIT_SECONDS) - 1)] if plan.waits else _RESYNC_SECONDS
        now = self._clock.now()
        due = [refusal.retry_at for refusal in self.performer.refusals.values()]
        if plan.wake_at is not None:
            due.append(plan.wake_at)
        return max(0.01, min([pause, *(at - now for at in due if at > now)]))

    async def turn(self) -> Plan:
        """Look, decide, act once; the plan that was performed."""
        world = await self.look()
        plan = await _decide(world)
        plan = replace(plan, steps=tuple(self.performer.possible(plan.steps)))
        self.turns += 1
        self._look_at_types(world)
        self._complain(plan)
        self.waits, self.converged = tuple(plan.waits), not plan.steps and not plan.waits
        await self.performer.perform(plan.steps)
        return plan

    def _complain(self, plan: Plan) -> None:
        """Say what could not be decided: one bad object must neither hold up the others nor be passed over in silence."""
        for resource, error in plan.mistakes:
            self.errors += 1
            about = {"kind": resource.kind.kind, "namespace": resource.namespace, "name": resource.name}
            log.error("a resource cannot be reconciled, by a mistake of ours", exc_info=error, **about)

    async def look(self) -> World:
        """Everything a decision needs, as it is now."""
        epoch = self._store.epoch
        if epoch is None or epoch != self._term:
            await self._take_over(epoch)
        self._seen_presence = self._presence()
        holdings = self._holdings()
        await self._describe(topics_to_describe(holdings.values()))
        world = self._world(epoch or 0, holdings)
        verify = self._clock.monotonic() - self._verified_at > _VERIFY_SECONDS
        questions = groups_to_ask(world, verify=verify)
        if verify:
            self._verified_at = self._clock.monotonic()
        if not questions.committed and not questions.states:
            return world  # Nothing was awaited since it was put together.
        committed = await self._admin.committed(questions.committed) if questions.committed else {}
        states = await self._admin.groups(questions.states) if questions.states else {}
        return self._world(epoch or 0, holdings, committed=dict(committed), groups=dict(states))

    async def _take_over(self, epoch: int | None) -> None:
        """Begin a term: see the routing table as it is now, and nothing of what an earlier term remembers."""
        self.performer.forget()
        self._described_at = self._verified_at = float("-inf")
        if not await self._routing.refresh(_REFRESH_SECONDS):
            log.warning("the routing table could not be read to its end yet")
        await self._own_source()
        self._term = epoch

    async def _own_source(self) -> None:
        """Make sure that the topics here belong to the resources that are read here: those of others would count as gone.

        Raises Permanent when they do not.
        """
        here = self._store.source
        try:
            record = self._store.get(SOURCE, "", "source")
        except NotFound:
            await self._store.create(source_record(here))
            return
        found = str(record.spec.get("source"))
        if found == here:
            return
        if not self._installation.adopts_source:
            raise Permanent(
                f"the topics of this Kafka belong to the resources of {found}, and here are those of {here}: nothing is done, they would "
                "count as topics whose owners are gone. Choose another Kafka or cluster, or set HEADRACE_CONTROLLER_ADOPT_SOURCE=true"
            )
        log.warning("topics are taken over from other resources", before=found, now=here)
        await self._store.replace(source_record(here))

    async def _describe(self, names: set[str]) -> None:
        now = self._clock.monotonic()
        if now - self._described_at > _RESYNC_SECONDS:
            self._cluster = await self._admin.cluster()
            self._described_at = now
            wanted = names
        else:
            wanted = (names & self.performer.touched) | (names - self._described)
        if wanted:
            found = await self._admin.describe(wanted)
            self.performer.touched -= wanted
            self._topics = {name: facts for name, facts in self._topics.items() if name not in wanted} | dict(found)
        self._described = names

    def _world(self, epoch: int, holdings: dict[str, Holding], **answers: dict[str, object]) -> World:
        system, faults = self._system.read(), dict[str, str]()
        brokers, triggers, event_types = (
            self._judge.judge(self._store.list(kind), system, faults) for kind in (BROKER, TRIGGER, EVENT_TYPE)
        )
        named = references(brokers, triggers, event_types, services=not self._installation.in_cluster)
        return World(
            installation=self._installation,
            now=self._clock.now(),
            epoch=epoch,
            cluster=self._cluster,
            brokers=brokers,
            triggers=triggers,
            event_types=event_types,
            faults=faults,
            system=system,
            system_problems=dict(self._system.problems),
            referred=[found for each in named if (found := self._store.find(each)) is not None],
            unreadable=self._store.refer({(each.api_version, each.kind) for each in named}),
            holdings=holdings,
            topics=self._topics,
            routes=self._routes(),
            removals=self._removals(),
            route_positions=dict(self.performer.positions),
            routes_end=self._routing.table.position,
            instances=self._instances.live(),
            refusals=dict(self.performer.refusals),
            **answers,  # type: ignore[arg-type]
        )

    def _holdings(self) -> dict[str, Holding]:
        found: dict[str, tuple[Resource, Holding]] = {}
        for record in self._store.list(HOLDING):
            known = self._read.get(record.name)
            try:
                found[record.name] = known if known is not None and known[0] is record else (record, read_holding(record))
            except (ValueError, KeyError, TypeError) as error:
                # Written by a newer version: leaving its names unknown could give them out twice.
                raise _unreadable(record, error) from error
        self._read = found
        return {name: holding for name, (_, holding) in found.items()}

    def _routes(self) -> dict[str, Route]:
        table = self._routing.table
        delays = table.delays()
        known: list[Route] = [*table.addressables(), *table.subscriptions()]
        routes = {route_key(each): each for each in known}
        if delays is not None:
            routes[DELAYS_KEY] = delays
        # Our own newest writes may not have come back through the log yet.
        for key, route in self.performer.written.items():
            if self.performer.positions[key] <= table.position:
                continue
            if route is None:
                routes.pop(key, None)
            else:
                routes[key] = route
        return routes

    def _removals(self) -> dict[str, int]:
        """Removals that have come back through the log, and that we have written nothing after."""
        table, positions = self._routing.table, self.performer.positions
        return {key: epoch for key, epoch in table.removals.items() if positions.get(key, -1) <= table.position}


async def _decide(world: World) -> Plan:
    """Decide, and let others of this loop have their turns meanwhile; the world is a value and does not change under it."""
    for plan in deciding(world):
        if plan is not None:
            return plan
        await asyncio.sleep(0)
    raise AssertionError("deciding ends with a plan")


def source_record(source: str) -> Resource:
    """The record that says whose topics are in this Kafka."""
    return Resource(
        SOURCE, {"apiVersion": SOURCE.api_version, "kind": SOURCE.kind, "metadata": {"name": "source"}, "spec": {"source": source}}
    )


def _unreadable(record: Resource, error: Exception) -> HeadraceError:
    return HeadraceError(f"the record of owner {record.name} cannot be read ({error}); it may be a newer version's: run that version")
