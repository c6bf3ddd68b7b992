"""The composition root of the sources process.

`compose` is the one place that creates `Sources`, over any adapters; `kafka_backends` creates those
used in production.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from headrace.adapters.by_backend import LogByBackend
from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.http.client_resolver import is_local
from headrace.adapters.http.system_authorities import system_authorities
from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.adapters.kafka.control.instances import KafkaInstances
from headrace.adapters.kafka.control.routing import READINESS_REPORT_SECONDS, KafkaRoutingReader
from headrace.adapters.kafka.control.source_leases import KafkaSourceLeases
from headrace.adapters.kafka.options import LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.backend_name import JETSTREAM, KAFKA
from headrace.domain.egress import EgressPolicy, ProtectedPort
from headrace.domain.ports import Instances, Log, RoutingReader, SourceLeases
from headrace.runtime.clock import SystemClock
from headrace.runtime.heartbeat import instance_name
from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.kafka_metrics import measure_kafka
from headrace.runtime.management import add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.process import ExitCode, tune_gc
from headrace.runtime.service import CloseOnStop, Component, Service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings, NatsSettings
from headrace.runtime.sockets import SOURCES_MANAGEMENT_PORT, other_services_ports
from headrace.runtime.traced_ports import traced_log
from headrace.runtime.tracing import Tracing, add_tracing
from headrace.runtime.watchdog import Watchdog
from headrace_sources.api_server import ApiServer
from headrace_sources.emitter import EmitterContext
from headrace_sources.receiver import Receiver
from headrace_sources.registry import adapters_with, check_own_adapters
from headrace_sources.running_source import SourceServices
from headrace_sources.secrets import ApiSecrets, NoSecrets, SecretReader, Secrets
from headrace_sources.settings import SourcesSettings
from headrace_sources.sources import Sources

_STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesBackends:
    """The adapters of this service. `components` start before it, in this order, and stop after
    it.
    """

    log: Log
    routes: RoutingReader
    instances: Instances
    leases: SourceLeases
    secrets: SecretReader
    components: tuple[tuple[str, Component], ...] = ()
    measurements: ClientMeasurements | None = None
    """Of the Kafka clients of these backends."""

    def adding(
        self, backend: str, log: Log, *components: tuple[str, Component]
    ) -> "SourcesBackends":
        """Return these, with the log of one more backend for events."""
        return replace(
            self,
            log=LogByBackend.adding(self.log, backend, log),
            components=(*self.components, *components),
        )


def kafka_backends(
    settings: SourcesSettings,
    kafka: KafkaSettings,
    *,
    secrets: SecretReader,
    served: Collection[str] = (KAFKA,),
) -> SourcesBackends:
    """Adapters for Kafka. `served` are the backends whose routes are read."""
    options, credentials = renewed_options(kafka, "headrace-sources")
    log = KafkaLog(options, log=LogOptions(topic_bytes_max=settings.append_bytes_max))
    instances = KafkaInstances(options, log, SystemClock(), follow=False)
    return SourcesBackends(
        log=log,
        routes=KafkaRoutingReader(options, start_seconds=READINESS_REPORT_SECONDS, backends=served),
        instances=instances,
        leases=KafkaSourceLeases(options, log, instance=settings.instance),
        secrets=secrets,
        components=(
            ("sources credentials", credentials),
            ("sources log", log),
            ("sources instances", instances),
        ),
        measurements=options.measurements,
    )


def all_backends(
    settings: SourcesSettings, kafka: KafkaSettings, nats: NatsSettings, *, secrets: SecretReader
) -> SourcesBackends:
    """The backends of a process: those of Kafka, with JetStream if NATS servers are set."""
    served = (KAFKA, JETSTREAM) if nats.servers else (KAFKA,)
    backends = kafka_backends(settings, kafka, secrets=secrets, served=served)
    return with_jetstream(backends, settings, nats)


def with_jetstream(
    backends: SourcesBackends, settings: SourcesSettings, nats: NatsSettings
) -> SourcesBackends:
    """The backends, with JetStream if NATS servers are set."""
    connection = nats.options("headrace-sources")
    if connection is None:
        return backends
    from headrace.adapters.nats.log import JetStreamLog
    from headrace.adapters.nats.options import JetStreamLogOptions

    log = JetStreamLog(
        connection, log=JetStreamLogOptions(topic_bytes_max=settings.append_bytes_max)
    )
    return backends.adding(JETSTREAM, log, ("sources JetStream log", log))


def compose(
    service: Service,
    settings: SourcesSettings,
    backends: SourcesBackends,
    metrics: Metrics,
    egress: EgressPolicy,
    *,
    api_server: ApiServer | None = None,
    tracing: Tracing | None = None,
) -> Receiver:
    """Put the sources and what they need into `service`, and return the receiver of their webhooks.
    `egress` says where they may post to; `api_server` is by default that of the settings. Raises
    what `Receiver` raises.
    """
    clock = SystemClock()
    sender = HttpSender(ClientOptions(address_denied=egress))
    receiver, secrets = Receiver(settings), Secrets(backends.secrets)
    services = SourceServices(
        emitters=EmitterContext(
            log=traced_log(backends.log, tracing),
            sender=sender,
            clock=clock,
            table=backends.routes.table,
            jitter=lambda: random.uniform(-1.0, 1.0),
        ),
        secrets=secrets,
        leases=backends.leases,
        receiver=receiver,
        clock=clock,
        address_denied=egress,
        api_server=api_server or api_server_of(settings),
        settings=settings,
    )
    own = settings.own_adapters()
    adapters = adapters_with(own)
    check_own_adapters(adapters, own)
    sources = Sources(
        instance_id=instance_name("sources"),
        services=services,
        routes=backends.routes,
        instances=backends.instances,
        metrics=metrics,
        adapters=adapters,
    )
    measure_kafka(metrics, "sources", backends.routes.table, backends.measurements)
    for name, component in backends.components:
        service.add(name, component)
    service.add("sources sender", CloseOnStop(sender.stop))
    service.add("secrets", secrets)
    service.add("receiver", receiver)
    service.add("sources", sources)
    service.health.add("sources-kafka", sources.unacknowledged_since)
    return receiver


async def run(
    settings: SourcesSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    management: ManagementSettings,
    logs: LogSettings,
) -> ExitCode:
    """Run sources until a signal is received; return the exit code."""
    metrics = Metrics()
    service = Service(
        "sources",
        shutdown_delay_seconds=settings.shutdown_delay_seconds,
        drain_seconds=settings.drain_seconds + _STOP_SECONDS,
        stop_seconds=_STOP_SECONDS,
    )
    service.add("watchdog", Watchdog("sources", settings.watchdog_seconds))
    own = add_management(
        service,
        metrics,
        management,
        default_port=SOURCES_MANAGEMENT_PORT,
        others=(settings, kafka, nats, logs),
    )
    ports = (
        ProtectedPort(own.host, own.port, "the management port of the sources"),
        *other_services_ports(SOURCES_MANAGEMENT_PORT),
    )
    service.add("system authorities", system_authorities())
    backends = all_backends(settings, kafka, nats, secrets=secret_reader(settings))
    compose(
        service,
        settings,
        backends,
        metrics,
        settings.egress(protected_ports=ports, is_local=is_local),
        tracing=add_tracing(service, metrics, "headrace-sources"),
    )
    return await service.run(tune_gc)


def api_server_of(settings: SourcesSettings) -> ApiServer | None:
    """The API server that the settings name, None if they name none."""
    if settings.kubeconfig is None and not settings.kubernetes:
        return None
    return ApiServer(kubeconfig=settings.kubeconfig)


def secret_reader(settings: SourcesSettings) -> SecretReader:
    """Where this process reads Secrets. Raises Permanent if the kubeconfig cannot be used."""
    if api_server_of(settings) is None:
        return NoSecrets()
    from headrace.adapters.kubernetes.secret_reader import SecretApi

    return ApiSecrets(SecretApi(settings.kubeconfig), settings.data_roots())
