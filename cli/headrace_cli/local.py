"""Runs all services in one process for `headrace up`. It uses the same components as in production,
with other adapters if there is no Kafka.

On a real Kafka, each service is composed as in a separate process. With the embedded Kafka,
resources and routing table are kept in memory, because its log drops old records.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import structlog
from rich.console import Console

import headrace_controller.app
import headrace_controller.controller_runtime
import headrace_dispatcher.app
import headrace_ingress.app
import headrace_sources.app
from headrace.adapters.http.client_resolver import is_local
from headrace.adapters.http.server_local_guard import is_local_bind
from headrace.adapters.http.system_authorities import system_authorities
from headrace.adapters.kafka.local.mock_cluster import MockCluster
from headrace.adapters.kafka.local.mock_cluster_groups import MockClusterGroups
from headrace.adapters.kafka.local.mock_cluster_offsets import MockClusterOffsets
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.memory.backend import MemoryBackend
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.source_leases import MemorySourceLeases
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.backend_name import JETSTREAM, KAFKA
from headrace.domain.egress import ProtectedPort
from headrace.resources.control_ports import ResourceStore
from headrace.runtime.clock import SystemClock
from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.management import add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.service import CloseOnStop, Component, Service
from headrace.runtime.settings import (
    KafkaSettings,
    LogSettings,
    ManagementSettings,
    NatsSettings,
    Settings,
)
from headrace.runtime.sockets import MANAGEMENT_PORT, RequiredPort, check_free
from headrace.runtime.tracing import add_tracing
from headrace.runtime.watchdog import Watchdog
from headrace_apiserver.authentication import read_tokens
from headrace_cli.client import ApiClient
from headrace_cli.embedded_kafka import EmbeddedFeeds, EmbeddedTopicAdmin, UnreadLimitedLog
from headrace_cli.event_viewer import EventViewer, Shown
from headrace_cli.in_memory_backend import (
    SERVED,
    add_to_dispatcher,
    add_to_ingress,
    measure_memory,
)
from headrace_cli.stored_secrets import StoredSecrets
from headrace_controller.custom_sources import with_custom_sources
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.settings import ControllerSettings
from headrace_dispatcher.poison_tracker import PoisonTracker
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingress.settings import IngressSettings
from headrace_sources.api_server import ApiServer
from headrace_sources.settings import SourcesSettings

logger = structlog.get_logger(__name__)

INSTANCE_NAME = "headrace-up"
"""Name of the dispatcher in its groups and of the controller among controllers. After a crash and
restart they continue immediately.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Settings of all components."""

    ingress: IngressSettings
    dispatcher: DispatcherSettings
    sources: SourcesSettings
    controller: ControllerSettings
    management: ManagementSettings
    logs: LogSettings
    nats: NatsSettings
    viewer_port: int
    ingress_url_given: bool
    """Whether the URL prefix of Broker addresses was set. Otherwise it is the listen address of the
    ingress.
    """

    def others(self) -> Sequence[Settings]:
        """Return all settings but those of the management port."""
        return (
            self.ingress,
            self.dispatcher,
            self.sources,
            self.controller,
            self.logs,
            self.nats,
        )

    def watchdog_seconds(self) -> float:
        """Return the shortest limit of the services, which share one event loop here; 0 if
        all watchdogs are disabled.
        """
        limits = (
            self.ingress.watchdog_seconds,
            self.dispatcher.watchdog_seconds,
            self.sources.watchdog_seconds,
            self.controller.watchdog_seconds,
        )
        return min((seconds for seconds in limits if seconds), default=0.0)

    def reconcilers(self) -> Reconcilers:
        """Return the kinds that the controller reconciles. Raises `InvalidSourceDefinition`."""
        return with_custom_sources(RECONCILERS, self.controller.source_crd_files())

    def check_ports(self) -> None:
        """Check that all ports are free, before anything starts. Raises `PortInUse` that names
        every port in use.
        """
        management = self.management
        port = MANAGEMENT_PORT if management.port is None else management.port
        check_free(
            [
                RequiredPort(self.ingress.host, self.ingress.port, "the ingress", "--port"),
                RequiredPort(
                    self.controller.host,
                    self.controller.port,
                    "the controller's API",
                    "--controller-port",
                ),
                RequiredPort(
                    management.host,
                    port,
                    "the management port (health, metrics)",
                    "--management-port",
                ),
                RequiredPort(
                    self.sources.host,
                    self.sources.port,
                    "the receiver of sources",
                    "--sources-port",
                ),
                RequiredPort("127.0.0.1", self.viewer_port, "the event viewer", "--viewer-port"),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBackends:
    """Backends of the services: Kafka, or the embedded Kafka together with memory. `parts` start
    before all services.
    """

    controller: headrace_controller.controller_runtime.ControllerBackends
    dispatcher: headrace_dispatcher.app.DispatcherBackends
    sources: headrace_sources.app.SourcesBackends
    ingress: headrace_ingress.app.IngressBackends | KafkaSettings
    """Settings if there are several ingress processes, which create their backends themselves."""
    poison_tracker: PoisonTracker
    """Of the dispatcher, and of what reads for it."""
    bootstrap_servers: str
    parts: tuple[tuple[str, Component], ...] = ()
    settings: Sequence[Settings] = ()
    """Those of the Kafka that these backends use, unless it is embedded."""


def kafka_backends(kafka: KafkaSettings, settings: LocalSettings) -> LocalBackends:
    """Return backends that store everything in Kafka, as in production."""
    controller = replace(
        settings.controller, instance=settings.controller.instance or INSTANCE_NAME
    )
    dispatcher = replace(
        settings.dispatcher, instance=settings.dispatcher.instance or INSTANCE_NAME
    )
    several = settings.ingress.workers > 1
    # The memory of this process is not that of the workers.
    served = (KAFKA,) if several else SERVED
    options, credentials = renewed_options(kafka, "headrace-controller")
    poison_tracker = headrace_dispatcher.app.open_poison_tracker(settings.dispatcher)
    control = headrace_controller.app.kafka_backends(
        controller,
        options,
        settings.reconcilers(),
        nats=settings.nats,
    )
    return LocalBackends(
        controller=control,
        sources=headrace_sources.app.all_backends(
            replace(settings.sources, instance=settings.sources.instance or INSTANCE_NAME),
            kafka,
            settings.nats,
            secrets=StoredSecrets(control.store, settings.sources.data_roots()),
        ),
        dispatcher=headrace_dispatcher.app.all_backends(
            dispatcher, kafka, settings.nats, served=served, poison_tracker=poison_tracker
        ),
        ingress=kafka
        if several
        else headrace_ingress.app.all_backends(
            settings.ingress, kafka, settings.nats, served=served
        ),
        poison_tracker=poison_tracker,
        bootstrap_servers=kafka.bootstrap_servers,
        parts=(("controller credentials", credentials),),
        settings=(kafka,),
    )


def embedded_backends(cluster: MockCluster, settings: LocalSettings) -> LocalBackends:
    """Return backends that store events in the embedded Kafka and everything else in memory."""
    options, clock = (
        KafkaOptions(bootstrap_servers=cluster.bootstrap_servers, client_id="headrace-up"),
        SystemClock(),
    )
    if not cluster.tuned:
        logger.warning(
            "embedded_not_tuned",
            error="topics have 4 partitions and are never deleted",
            next_step="use --kafka apache, which has no such limits",
        )
    groups = MockClusterGroups()
    feeds = EmbeddedFeeds(settings.dispatcher, options, groups)
    routing, offsets, instances = (
        MemoryRoutingLog(),
        MockClusterOffsets(options),
        MemoryInstances(clock),
    )
    events, readers = (
        KafkaLog(options, log=settings.ingress.log_options()),
        MemoryRoutingReader(routing),
    )
    log, nats = UnreadLimitedLog(events, feeds=feeds, routes=readers), settings.nats
    served = (*SERVED, JETSTREAM) if nats.servers else SERVED
    control = headrace_controller.controller_runtime.ControllerBackends(
        store=MemoryResourceStore(clock=clock),
        admin=EmbeddedTopicAdmin(cluster, offsets, groups),
        routes=MemoryRoutingWriter(routing),
        routing=MemoryRoutingReader(routing),
        instances=instances,
    )
    delivery = headrace_dispatcher.app.DispatcherBackends(
        log=log, feeds=feeds, routes=MemoryRoutingReader(routing, served), instances=instances
    )
    acceptance = headrace_ingress.app.IngressBackends(
        log=log,
        routes=MemoryRoutingReader(routing, served),
        instances=instances,
        warm_up=events.warm_up,
        measurements=options.measurements,
    )
    origin = headrace_sources.app.SourcesBackends(
        log=log,
        routes=MemoryRoutingReader(routing, (KAFKA, JETSTREAM) if nats.servers else (KAFKA,)),
        instances=instances,
        leases=MemorySourceLeases(),
        secrets=StoredSecrets(control.store, settings.sources.data_roots()),
    )
    return LocalBackends(
        sources=headrace_sources.app.with_jetstream(origin, settings.sources, nats),
        controller=headrace_controller.app.with_jetstream(control, nats),
        dispatcher=headrace_dispatcher.app.with_jetstream(delivery, settings.dispatcher, nats),
        ingress=headrace_ingress.app.with_jetstream(acceptance, settings.ingress, nats),
        poison_tracker=headrace_dispatcher.app.open_poison_tracker(settings.dispatcher),
        bootstrap_servers=cluster.bootstrap_servers,
        parts=(
            ("offsets", CloseOnStop(offsets.close)),
            ("feeds", CloseOnStop(feeds.close)),
            ("log", events),
            ("readers", readers),
            ("unread records", log),
        ),
    )


def _add_memory(
    service: Service, settings: LocalSettings, backends: LocalBackends, metrics: Metrics
) -> LocalBackends:
    """Let ingress and dispatcher serve in-memory channels, if they are in one process."""
    if isinstance(backends.ingress, KafkaSettings):
        return backends
    memory = MemoryBackend(drain_seconds=settings.dispatcher.drain_seconds)
    service.add("in-memory channels", memory)
    measure_memory(metrics, memory)
    return replace(
        backends,
        ingress=add_to_ingress(backends.ingress, memory),
        dispatcher=add_to_dispatcher(backends.dispatcher, memory),
    )


class LocalServices:
    """The process: a `Service` with all components. Raises `PortInUse` for a port that was taken
    after `check_ports`.
    """

    def __init__(
        self, settings: LocalSettings, backends: LocalBackends, *, console: Console, shown: Shown
    ) -> None:
        metrics = Metrics()
        self.service = service = Service(
            "up", drain_seconds=settings.dispatcher.drain_seconds + 10.0, stop_seconds=20.0
        )
        evidence = backends.poison_tracker.evidence
        service.add("watchdog", Watchdog("up", settings.watchdog_seconds(), evidence=evidence))
        self.management = add_management(
            service,
            metrics,
            settings.management,
            default_port=MANAGEMENT_PORT,
            others=(*settings.others(), *backends.settings),
            facts=self._facts(settings, backends),
        )
        self._tracing = add_tracing(service, metrics, "headrace")
        service.add("system authorities", system_authorities())
        for name, part in backends.parts:
            service.add(name, part)
        backends = _add_memory(service, settings, backends, metrics)
        self.viewer = EventViewer(console, port=settings.viewer_port, shown=shown)
        self.store: ResourceStore = backends.controller.store
        self._tokens, self._certificate = (
            settings.controller.token_file,
            settings.controller.tls_cert_file,
        )
        self.ingress_url = self._compose(settings, backends, metrics)

    @staticmethod
    def _facts(settings: LocalSettings, backends: LocalBackends) -> dict[str, str]:
        """Return the address of Kafka, for `headrace dead-letters`. It is shown only on the
        loopback interface, like all information that helps to find events.
        """
        return (
            {"kafka": backends.bootstrap_servers} if is_local_bind(settings.management.host) else {}
        )

    def _protected_ports(self) -> tuple[ProtectedPort, ...]:
        """Return the ports that no Trigger may call. The ingress port is not one of them: a Broker
        is a normal subscriber.
        """
        api = urlsplit(self.controller.url)
        return (
            ProtectedPort(self.management.host, self.management.port, "the management port"),
            ProtectedPort(api.hostname or "", api.port or 0, "the controller's API"),
        )

    def client(self) -> ApiClient:
        """Return a client of the controller's API."""
        return ApiClient(
            self.controller.url,
            token=self._token(),
            certificate_authority=self._certificate,
        )

    def _token(self) -> str:
        """Return a token of the controller's API, empty if it needs none."""
        tokens = read_tokens(self._tokens) if self._tokens else {}
        return next(iter(tokens), "")

    def _compose(self, settings: LocalSettings, backends: LocalBackends, metrics: Metrics) -> str:
        """Add the services and return the URL of the ingress."""
        # The ingress may use any free port, and the controller writes it into the addresses of
        # Brokers. So the ingress is created first and started last.
        ingress = Service("ingress", health=self.service.health)
        if isinstance(backends.ingress, KafkaSettings):
            url = headrace_ingress.app.compose_workers(
                ingress, settings.ingress, backends.ingress, settings.nats, settings.logs, metrics
            ).url
        else:
            url = headrace_ingress.app.compose(
                ingress, settings.ingress, backends.ingress, metrics, tracing=self._tracing
            ).url
        controller = (
            settings.controller
            if settings.ingress_url_given
            else replace(settings.controller, ingress_url=url)
        )
        self.service.add("viewer", self.viewer)
        own = (
            ProtectedPort(self.management.host, self.management.port, "the management port"),
            ProtectedPort(controller.host, controller.port, "the controller's API"),
        )
        self.controller = headrace_controller.app.compose(
            self.service,
            controller,
            backends.controller,
            metrics,
            settings.reconcilers(),
            egress=settings.dispatcher.egress(
                loopback=True, protected_ports=own, is_local=is_local
            ),
        )
        egress = settings.dispatcher.egress(
            loopback=True, protected_ports=self._protected_ports(), is_local=is_local
        )
        headrace_dispatcher.app.compose(
            self.service,
            settings.dispatcher,
            backends.dispatcher,
            metrics,
            egress,
            poison_tracker=backends.poison_tracker,
            tracing=self._tracing,
        )
        receiver = headrace_sources.app.compose(
            self.service,
            settings.sources,
            backends.sources,
            metrics,
            settings.sources.egress(
                loopback=True, protected_ports=self._protected_ports(), is_local=is_local
            ),
            api_server=ApiServer(
                url=self.controller.url,
                token=self._token,
                certificate_authority=self._certificate,
            ),
            tracing=self._tracing,
        )
        self.sources_url = receiver.url
        self.service.extend(ingress)
        return url
