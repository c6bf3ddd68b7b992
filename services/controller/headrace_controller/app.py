"""The controller as a part of a process, and as a process of its own.

`Controller` is given its ports, so that `headrace up` can run it beside the other services on memory adapters. `compose` is the one place
that makes it, whatever it stands on; `on_kafka` is what it stands on in production.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.instances import KafkaInstances
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.routing import KafkaRoutingFollower, KafkaRoutingWriter
from headrace.adapters.kafka.store import KafkaResourceStore
from headrace.domain.control_ports import ResourceStore, TopicAdmin
from headrace.domain.kinds import KINDS
from headrace.domain.ports import Clock, Instances, RoutingFollower, RoutingWriter
from headrace.domain.resources import KindRegistry
from headrace.runtime.clock import SystemClock
from headrace.runtime.crashpoints import reach
from headrace.runtime.health import Health
from headrace.runtime.management import HttpServer, add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.ports import CONTROLLER_MANAGEMENT_PORT
from headrace.runtime.service import Closing, ExitCode, Part, Service
from headrace.runtime.settings import KafkaSettings, ManagementSettings
from headrace_controller.api_interim import controller_api, served
from headrace_controller.counts import watch_controller
from headrace_controller.ground import ControlTopics
from headrace_controller.loop import ReconcileLoop
from headrace_controller.settings import ControllerSettings
from headrace_controller.trim import Trimmer

log = structlog.stdlib.get_logger("headrace.controller")

_LOOPBACK = ("127.", "::1", "localhost")


class Controller:
    """A part of a service: store, routing table, reconcile loop and API. Instances and the admin are the caller's to start and stop."""

    def __init__(
        self,
        settings: ControllerSettings,
        *,
        store: ResourceStore,
        admin: TopicAdmin,
        routes: RoutingWriter,
        routing: RoutingFollower,
        instances: Instances,
        clock: Clock,
        health: Health | None = None,
        metrics: Metrics | None = None,
        kinds: KindRegistry = KINDS,
        crash_point: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the API's socket; raises PortInUse."""
        self._store = store
        self._routing = routing
        self._kinds = kinds
        self._started = False
        self.loop = ReconcileLoop(
            installation=settings.installation(),
            store=store,
            admin=admin,
            routing=routing,
            routes=routes,
            instances=instances,
            clock=clock,
            reach=crash_point,
        )
        self._trimmer = Trimmer(store=store, admin=admin)
        api = controller_api(store, kinds, health or Health(), loopback=settings.host.startswith(_LOOPBACK))
        self._server = HttpServer(api, host=settings.host, port=settings.port, purpose="the controller's API", option="--port")
        if metrics is not None:
            watch_controller(metrics, store, self.loop)

    @property
    def url(self) -> str:
        """Where the API answers."""
        return self._server.url

    def not_ready(self) -> str | None:
        """Why resources cannot be served, None when they can; a standby serves reads and is ready."""
        if not self._started:
            return "resources are being read"
        problem = getattr(self._store, "problem", None)
        return str(problem) if problem else None

    async def start(self) -> None:
        """Read resources and the routing table, then reconcile and serve."""
        await self._store.start()
        await self._routing.start()
        await self.loop.start()
        await self._trimmer.start()
        await self._server.start()
        self._started = True
        log.info("the controller's API answers", url=self.url, kinds=served(self._kinds))

    async def stop(self) -> None:
        """Serve no more, stop deciding, give the writer's place back."""
        self._started = False
        await self._server.stop()
        await self._trimmer.stop()
        await self.loop.stop()
        await self._store.stop()
        await self._routing.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a controller stands on. `parts` start before it, in this order, and stop after it."""

    store: ResourceStore
    admin: TopicAdmin
    routes: RoutingWriter
    routing: RoutingFollower
    instances: Instances
    parts: tuple[tuple[str, Part], ...] = ()


def on_kafka(settings: ControllerSettings, options: KafkaOptions) -> Ground:
    """Everything in Kafka."""
    clock, admin, writer = SystemClock(), KafkaTopicAdmin(options), KafkaRoutingWriter(options)
    # A controller reports nothing: the log behind its view of the others is never started.
    instances = KafkaInstances(options, KafkaLog(options), clock, follow=True)
    return Ground(
        store=KafkaResourceStore(options, kinds=KINDS, clock=clock, holder=settings.instance or f"{socket.gethostname()}:{settings.port}"),
        admin=admin,
        routes=writer,
        routing=KafkaRoutingFollower(options),
        instances=instances,
        parts=(
            ("admin", Closing(admin.close)),
            ("control topics", ControlTopics(admin)),
            ("instances", instances),
            ("routing writer", Closing(writer.stop)),
        ),
    )


def compose(service: Service, settings: ControllerSettings, ground: Ground, metrics: Metrics) -> Controller:
    """Put a controller and what it stands on into `service`. Raises what `Controller` does."""
    controller = Controller(
        settings,
        store=ground.store,
        admin=ground.admin,
        routes=ground.routes,
        routing=ground.routing,
        instances=ground.instances,
        clock=SystemClock(),
        health=service.health,
        metrics=metrics,
        crash_point=reach,
    )
    for name, part in ground.parts:
        service.add(name, part)
    service.health.add("controller", controller.not_ready)
    service.add("controller", controller)
    return controller


async def run(settings: ControllerSettings, kafka: KafkaSettings, management: ManagementSettings) -> ExitCode:
    """Control until a signal comes; return the exit code."""
    metrics, service = Metrics(), Service("controller")
    add_management(service, metrics, management, default_port=CONTROLLER_MANAGEMENT_PORT)
    compose(service, settings, on_kafka(settings, kafka.options("headrace-controller")), metrics)
    return await service.run()
