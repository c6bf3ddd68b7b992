"""All services in one process: what `headrace up` runs. The same classes as in production, given other adapters where there is no Kafka.

On a real Kafka everything stands in Kafka, as in production. On the embedded one, resources and routing table stand in memory, since its
log would forget them.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rich.console import Console

from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.embedded import EmbeddedCluster
from headrace.adapters.kafka.embedded_offsets import EmbeddedOffsets
from headrace.adapters.kafka.feeds import KafkaFeeds
from headrace.adapters.kafka.instances import INSTANCES_TOPIC, KafkaInstances
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.routing import KafkaRoutingFollower, KafkaRoutingWriter
from headrace.adapters.kafka.store import KafkaResourceStore
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.routing import MemoryRoutingFollower, MemoryRoutingLog, MemoryRoutingWriter
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.control_ports import ResourceStore, TopicAdmin
from headrace.domain.kinds import KINDS
from headrace.domain.ports import Instances, Log, RoutingFollower, RoutingWriter
from headrace.runtime.clock import SystemClock
from headrace.runtime.crashpoints import reach
from headrace.runtime.health import Health
from headrace.runtime.management import management_server
from headrace.runtime.metrics import Flusher, Metrics
from headrace.runtime.ports import PortInUse
from headrace.runtime.presence import instance_name
from headrace.runtime.service import Closing, Part, Service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings
from headrace_cli.embedded import CautiousLog, EmbeddedTopicAdmin
from headrace_cli.event_viewer import EventViewer, Shown
from headrace_controller.app import Controller
from headrace_controller.ground import ControlTopics
from headrace_controller.settings import ControllerSettings
from headrace_dispatcher.dispatcher import Dispatcher
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingress.ingress import Ingress
from headrace_ingress.settings import IngressSettings
from headrace_ingress.workers import Workers

EMBEDDED_FETCH_WAIT_MS = 20
"""The mock cluster does not wake a waiting fetch: an event waits this long at most."""
LASTING_NAME = "headrace-up"
"""Of the dispatcher in its groups: started again after a crash, it has its partitions at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Settings of all parts."""

    ingress: IngressSettings
    dispatcher: DispatcherSettings
    controller: ControllerSettings
    management: ManagementSettings
    logs: LogSettings
    management_port: int
    viewer_port: int
    ingress_url_given: bool
    """Whether somebody said what the addresses of Brokers begin with; else it is where our ingress listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the services stand on: Kafka, or the embedded one with memory beside it. `parts` are started first, in this order."""

    log: Log
    feeds: KafkaFeeds
    admin: TopicAdmin
    instances: Instances
    store: ResourceStore
    writer: RoutingWriter
    follower: Callable[[], RoutingFollower]
    warm_up: Callable[[float], Awaitable[None]]
    parts: tuple[tuple[str, Part], ...]


def kafka_ground(kafka: KafkaSettings, settings: LocalSettings) -> Ground:
    """Everything in Kafka, as in production."""
    options, clock = kafka.options("headrace-up"), SystemClock()
    log = KafkaLog(options, log=settings.ingress.log_options())
    feeds = KafkaFeeds(
        options,
        instance=LASTING_NAME,
        drain_seconds=settings.dispatcher.drain_seconds,
        reach=reach,
        bytes_max=settings.dispatcher.bytes_max,
    )
    admin, writer = KafkaTopicAdmin(options), KafkaRoutingWriter(options)
    instances = KafkaInstances(options, log, clock, follow=True)

    async def warm_up(seconds: float) -> None:
        await log.warm_up(seconds, topic=INSTANCES_TOPIC)

    return Ground(
        log=log,
        feeds=feeds,
        admin=admin,
        instances=instances,
        store=KafkaResourceStore(options, kinds=KINDS, clock=clock, holder=LASTING_NAME),
        writer=writer,
        follower=lambda: KafkaRoutingFollower(options),
        warm_up=warm_up,
        parts=(
            ("admin", Closing(admin.close)),
            ("feeds", Closing(feeds.close)),
            ("control topics", ControlTopics(admin)),
            ("log", log),
            ("instances", instances),
            ("routing writer", Closing(writer.stop)),
        ),
    )


def embedded_ground(cluster: EmbeddedCluster, settings: LocalSettings) -> Ground:
    """Events in the embedded Kafka, all else in memory."""
    options, clock = KafkaOptions(bootstrap_servers=cluster.bootstrap_servers, client_id="headrace-up"), SystemClock()
    feeds = KafkaFeeds(
        options,
        drain_seconds=settings.dispatcher.drain_seconds,
        fetch_wait_ms=EMBEDDED_FETCH_WAIT_MS,
        reach=reach,
        bytes_max=settings.dispatcher.bytes_max,
    )
    routing, offsets = MemoryRoutingLog(), EmbeddedOffsets(options)
    log, routes = KafkaLog(options, log=settings.ingress.log_options()), MemoryRoutingFollower(routing)
    cautious = CautiousLog(log, feeds=feeds, routes=routes)
    return Ground(
        log=cautious,
        feeds=feeds,
        admin=EmbeddedTopicAdmin(cluster, offsets),
        instances=MemoryInstances(clock),
        store=MemoryResourceStore(clock=clock),
        writer=MemoryRoutingWriter(routing),
        follower=lambda: MemoryRoutingFollower(routing),
        warm_up=log.warm_up,
        parts=(
            ("offsets", Closing(offsets.close)),
            ("feeds", Closing(feeds.close)),
            ("log", log),
            ("routes", routes),
            ("unread records", cautious),
        ),
    )


class Local:
    """The process: a `Service` with all parts. Raises `PortInUse` for the first port that somebody has."""

    def __init__(self, settings: LocalSettings, ground: Ground, *, console: Console, shown: Shown, kafka: KafkaSettings | None) -> None:
        """`kafka` is needed for several ingress workers, which are processes of their own."""
        clock, health, metrics = SystemClock(), Health(), Metrics()
        self.service = Service("headrace", health=health, drain_seconds=settings.dispatcher.drain_seconds + 10.0, stop_seconds=20.0)
        self.management = management_server("up", health, metrics, host=settings.management.host, port=settings.management_port)
        self.viewer = EventViewer(console, port=settings.viewer_port, shown=shown)
        self.store = ground.store
        ingress = self._ingress(settings, ground, metrics, kafka)
        self.ingress_url = f"http://{settings.ingress.host}:{ingress.port}"
        # The port may have been any free one: what Brokers are told is the one it became.
        told = {} if settings.ingress_url_given else {"ingress_url": self.ingress_url}
        self.controller = _controller(settings.controller.model_copy(update=told), ground, clock, health, metrics)
        dispatcher = _dispatcher(settings.dispatcher, ground, clock, metrics)
        self.service.add("management", self.management)
        self.service.add("metrics", Flusher(metrics))
        for name, part in ground.parts:
            self.service.add(name, part)
        self.service.add("viewer", self.viewer)
        for name, part, check in (
            ("controller", self.controller, self.controller.not_ready),
            ("dispatcher", dispatcher, dispatcher.not_ready),
            ("ingress", ingress, ingress.not_ready),
        ):
            health.add(name, check)
            self.service.add(name, part)

    @staticmethod
    def _ingress(settings: LocalSettings, ground: Ground, metrics: Metrics, kafka: KafkaSettings | None) -> Ingress | Workers:
        if settings.ingress.workers > 1 and kafka is not None:
            return Workers(settings.ingress, kafka, settings.logs)
        return Ingress(
            settings.ingress,
            log=ground.log,
            routes=ground.follower(),
            metrics=metrics,
            instances=ground.instances,
            warm_up=ground.warm_up,
        )


def _controller(settings: ControllerSettings, ground: Ground, clock: SystemClock, health: Health, metrics: Metrics) -> Controller:
    try:
        return Controller(
            settings,
            store=ground.store,
            admin=ground.admin,
            routes=ground.writer,
            routing=ground.follower(),
            instances=ground.instances,
            clock=clock,
            health=health,
            metrics=metrics,
            crash_point=reach,
        )
    except PortInUse as error:
        # Alone, its option is `--port`; here that is the ingress's.
        raise PortInUse(str(error).replace("with --port", "with --controller-port")) from error


def _dispatcher(settings: DispatcherSettings, ground: Ground, clock: SystemClock, metrics: Metrics) -> Dispatcher:
    return Dispatcher(
        instance_id=instance_name("dispatcher"),
        log=ground.log,
        feeds=ground.feeds,
        sender=HttpSender(ClientOptions(body_bytes_max=settings.reply_bytes_max)),
        routes=ground.follower(),
        instances=ground.instances,
        clock=clock,
        jitter=lambda: random.uniform(-1.0, 1.0),
        limits=settings.limits(),
        metrics=metrics,
    )
