"""Store, routing table and reconcile loop as one part of a service: the controller without a door of its own."""

from dataclasses import dataclass

from headrace.domain.errors import Temporary
from headrace.domain.ports import Clock, Instances, RoutingFollower, RoutingWriter
from headrace.resources.control_ports import ResourceStore, TopicAdmin
from headrace.runtime.metrics import Metrics
from headrace.runtime.patience import until_answered
from headrace.runtime.service import Part
from headrace_controller.counts import watch_controller
from headrace_controller.loop import ReconcileLoop
from headrace_controller.perform import Tell
from headrace_controller.reconcile.world import Installation
from headrace_controller.trim import Trimmer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a controller stands on. `parts` start before it, in this order, and stop after it."""

    store: ResourceStore
    admin: TopicAdmin
    routes: RoutingWriter
    routing: RoutingFollower
    instances: Instances
    parts: tuple[tuple[str, Part], ...] = ()


class Reconciler:
    """A part of a service. Instances and the admin are the caller's to start and stop."""

    def __init__(
        self,
        installation: Installation,
        ground: Ground,
        *,
        clock: Clock,
        metrics: Metrics | None = None,
        tell: Tell = lambda *_: None,
    ) -> None:
        self._store = ground.store
        self._routing = ground.routing
        self._started = False
        self._reason = "resources are being read"
        self.loop = ReconcileLoop(
            installation=installation,
            store=ground.store,
            admin=ground.admin,
            routing=ground.routing,
            routes=ground.routes,
            instances=ground.instances,
            clock=clock,
            tell=tell,
        )
        self._trimmer = Trimmer(store=ground.store, admin=ground.admin)
        if metrics is not None:
            watch_controller(metrics, ground.store, self.loop)

    def not_ready(self) -> str | None:
        """Why resources cannot be read, None when they can; a standby reads, and is ready."""
        return self._store.problem if self._started else self._reason

    async def start(self) -> None:
        """Read resources and the routing table, then reconcile. Waits for as long as they cannot be read, and says so."""
        for start in (self._store.start, self._routing.start):
            await until_answered(start, waiting=self._wait, what="not all can be read yet", patient_with=Temporary)
        await self.loop.start()
        await self._trimmer.start()
        self._started = True

    def _wait(self, reason: str) -> None:
        self._reason = reason

    async def stop(self) -> None:
        """Stop deciding, give the writer's place back."""
        self._started = False
        await self._trimmer.stop()
        await self.loop.stop()
        await self._store.stop()
        await self._routing.stop()
