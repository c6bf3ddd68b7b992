"""The controller as a component of a process, and as a process of its own.

`Controller` takes its ports as arguments, so that `headrace up` can run it beside the other
services on memory adapters. `compose` is the only place that creates it, with any backends;
`kafka_backends` are those of production.
"""

import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from headrace.adapters.http.client_resolver import is_local
from headrace.adapters.http.fetch import HttpFetcher
from headrace.adapters.http.system_authorities import system_authorities
from headrace.adapters.kafka.admin import KafkaTopicAdmin
from headrace.adapters.kafka.control.instances import KafkaInstances
from headrace.adapters.kafka.control.routing import KafkaRoutingReader, KafkaRoutingWriter
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.domain.egress import EgressPolicy
from headrace.domain.ports import Clock
from headrace.resources.control_ports import ResourceStore
from headrace.resources.event_schema import SOURCE_BYTES_MAX
from headrace.runtime.clock import SystemClock
from headrace.runtime.health import Health
from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.management import add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.process import ExitCode
from headrace.runtime.service import CloseOnStop, Service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings, NatsSettings
from headrace.runtime.sockets import CONTROLLER_MANAGEMENT_PORT
from headrace.runtime.watchdog import Watchdog
from headrace_apiserver.controllers.event_recorder import create_event_recorder
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.listener import ApiListener
from headrace_controller.control_topics import ControlTopics
from headrace_controller.controller_runtime import ControllerBackends, ControllerRuntime
from headrace_controller.custom_sources import with_custom_sources
from headrace_controller.event_schema_reader import Fetch, refuse_to_fetch
from headrace_controller.eventing_api import create_admission, create_api_server
from headrace_controller.reconcile.kinds import RECONCILERS, reconcilers_in_cluster
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.settings import ControllerSettings, KubernetesSettings


class Controller:
    """A component of a service: store, routing table, reconcile loop and API. The caller starts and
    stops the other backends.
    """

    def __init__(
        self,
        settings: ControllerSettings,
        backends: ControllerBackends,
        *,
        clock: Clock,
        health: Health | None = None,
        metrics: Metrics | None = None,
        catalog: Catalog | None = None,
        reconcilers: Reconcilers = RECONCILERS,
        fetch_schema: Fetch = refuse_to_fetch,
    ) -> None:
        """Open the API's socket. Raises PortInUse, and Permanent if the API would be unprotected or
        a file that it needs cannot be used.
        """
        self._started = False
        api = create_api_server(backends.store, clock, catalog=catalog, reconcilers=reconcilers)
        self._listener = ApiListener(settings.api_options(), api, health or Health())
        self._runtime = ControllerRuntime(
            settings.installation(),
            backends,
            clock=clock,
            metrics=metrics,
            reconcilers=reconcilers,
            record_event=api.recorder.event,
            admit=create_admission(api.catalog),
            fetch_schema=fetch_schema,
        )
        self.loop = self._runtime.loop

    @property
    def url(self) -> str:
        """The URL of the API."""
        return self._listener.url

    @property
    def kubeconfig(self) -> Path | None:
        """The kubeconfig for the API, once it is written."""
        return self._listener.kubeconfig

    def not_ready(self) -> str | None:
        """Why resources cannot be served; None if they can. A standby serves reads and is ready."""
        return self._runtime.not_ready() or (
            None if self._started else "the API is not started yet"
        )

    async def start(self) -> None:
        """Read resources and the routing table, then reconcile and serve."""
        await self._runtime.start()
        await self._listener.start()
        self._started = True

    async def stop(self) -> None:
        """Stop serving and reconciling, and release leadership."""
        self._started = False
        await self._listener.stop()
        await self._runtime.stop()


def kafka_backends(
    settings: ControllerSettings,
    options: KafkaOptions,
    reconcilers: Reconcilers = RECONCILERS,
    *,
    nats: NatsSettings | None = None,
) -> ControllerBackends:
    """Resources and everything else in Kafka; channels in JetStream too, with `nats`."""
    holder = settings.instance or f"{socket.gethostname()}:{settings.port}"
    kinds = reconcilers.stored_kinds
    store = KafkaResourceStore(options, kinds=kinds, clock=SystemClock(), holder=holder)
    return _backends_on(options, store, nats)


def cluster_backends(
    settings: ControllerSettings,
    options: KafkaOptions,
    cluster: KubernetesSettings,
    reconcilers: Reconcilers = RECONCILERS,
    *,
    nats: NatsSettings | None = None,
) -> ControllerBackends:
    """Resources in a Kubernetes API server, the rest as in `kafka_backends`. Raises Permanent if no
    API server is configured.
    """
    from headrace_controller.cluster_store import create_cluster_store

    holder = settings.instance or socket.gethostname()
    store = create_cluster_store(cluster, options, reconcilers, holder=holder)
    return _backends_on(options, store, nats)


def with_jetstream(backends: ControllerBackends, nats: NatsSettings | None) -> ControllerBackends:
    """The backends, with the administration of JetStream if NATS servers are set."""
    connection = nats.options("headrace-controller") if nats is not None else None
    if connection is None:
        return backends
    from headrace.adapters.nats.admin import JetStreamTopicAdmin

    admin = JetStreamTopicAdmin(connection)
    part = ("JetStream admin", CloseOnStop(admin.close))
    return replace(backends, jetstream_admin=admin, parts=(*backends.parts, part))


def _backends_on(
    options: KafkaOptions, store: ResourceStore, nats: NatsSettings | None
) -> ControllerBackends:
    clock, admin, writer = SystemClock(), KafkaTopicAdmin(options), KafkaRoutingWriter(options)
    # A controller does not report itself: the log behind its view of the others is not started.
    instances = KafkaInstances(options, KafkaLog(options), clock, follow=True)
    backends = ControllerBackends(
        store=store,
        admin=admin,
        routes=writer,
        routing=KafkaRoutingReader(options),
        instances=instances,
        parts=(
            ("admin", CloseOnStop(admin.close)),
            ("control topics", ControlTopics(admin)),
            ("instances", instances),
            ("routing writer", CloseOnStop(writer.stop)),
        ),
    )
    return with_jetstream(backends, nats)


def compose(
    service: Service,
    settings: ControllerSettings,
    backends: ControllerBackends,
    metrics: Metrics,
    reconcilers: Reconcilers = RECONCILERS,
    egress: EgressPolicy | None = None,
) -> Controller:
    """Add a controller and its backends to `service`; `egress` says from where it may fetch
    schemas, that of the settings by default. Raises what `Controller` does.
    """
    controller = Controller(
        settings,
        backends,
        clock=SystemClock(),
        health=service.health,
        metrics=metrics,
        reconcilers=reconcilers,
        fetch_schema=_fetch_schema(egress or settings.egress(is_local=is_local)),
    )
    _add(service, backends, controller)
    return controller


def compose_in_cluster(
    service: Service,
    settings: ControllerSettings,
    cluster: KubernetesSettings,
    backends: ControllerBackends,
    metrics: Metrics,
    reconcilers: Reconcilers = RECONCILERS,
) -> ControllerRuntime:
    """Add a controller without an API of its own to `service`: the cluster has one."""
    clock = SystemClock()
    # Events of earlier processes are not read back: the stamp gives this one's other names.
    recorder, events = create_event_recorder(
        backends.store, lambda: datetime.fromtimestamp(clock.now(), UTC), stamp=f"{clock.now():.3f}"
    )
    runtime = ControllerRuntime(
        replace(settings.installation(), in_cluster=True, namespaces=cluster.served_namespaces()),
        backends,
        clock=clock,
        metrics=metrics,
        reconcilers=reconcilers,
        record_event=recorder.event,
        fetch_schema=_fetch_schema(settings.egress(is_local=is_local)),
    )
    _add(service, backends, runtime)
    service.add("events", events)
    return runtime


def _fetch_schema(egress: EgressPolicy) -> Fetch:
    return HttpFetcher(address_denied=egress, bytes_max=SOURCE_BYTES_MAX).fetch


def _add(
    service: Service, backends: ControllerBackends, controller: Controller | ControllerRuntime
) -> None:
    for name, part in backends.parts:
        service.add(name, part)
    service.add("controller", controller)


async def run(
    settings: ControllerSettings,
    kafka: KafkaSettings,
    management: ManagementSettings,
    logs: LogSettings,
    cluster: KubernetesSettings | None = None,
    reconcilers: Reconcilers = RECONCILERS,
    *,
    nats: NatsSettings | None = None,
) -> ExitCode:
    """Run until a signal is received, with resources in Kafka or in a `cluster`; the exit code."""
    # Kafka may start later than this process, much later after an outage of everything: waiting is
    # no slower than a restart.
    metrics = Metrics()
    service = Service(
        "controller",
        start_seconds=None,
        shutdown_delay_seconds=settings.shutdown_delay_seconds,
    )
    service.add("watchdog", Watchdog("controller", settings.watchdog_seconds))
    others = [each for each in (settings, kafka, logs, nats, cluster) if each is not None]
    add_management(
        service, metrics, management, default_port=CONTROLLER_MANAGEMENT_PORT, others=others
    )
    options, credentials = renewed_options(kafka, "headrace-controller")
    service.add("controller credentials", credentials)
    service.add("system authorities", system_authorities())
    reconcilers = with_custom_sources(reconcilers, settings.source_crd_files())
    if cluster is None:
        backends = kafka_backends(settings, options, reconcilers, nats=nats)
        compose(service, settings, backends, metrics, reconcilers)
    else:
        reconcilers = reconcilers_in_cluster(
            reconcilers,
            channels=cluster.channels,
            sources=cluster.sources,
            legacy=cluster.legacy,
            namespaced=bool(cluster.served_namespaces()),
        )
        backends = cluster_backends(settings, options, cluster, reconcilers, nats=nats)
        compose_in_cluster(service, settings, cluster, backends, metrics, reconcilers)
    return await service.run()
