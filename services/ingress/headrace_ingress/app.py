"""The composition root of the ingress: creates the adapters and components and runs them, in one
process or in several that share a port.

Only `compose` creates an `Ingress`, with the backends that it is given. `kafka_backends` creates
the backends used in production.
"""

import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from headrace.adapters.by_backend import LogByBackend
from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.adapters.kafka.control.instances import KafkaInstances
from headrace.adapters.kafka.control.routing import READINESS_REPORT_SECONDS, KafkaRoutingReader
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.backend_name import JETSTREAM, KAFKA
from headrace.domain.control_topics import INSTANCES_TOPIC
from headrace.domain.ports import Instances, Log, RoutingReader
from headrace.runtime.clock import SystemClock
from headrace.runtime.health import Health
from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.kafka_metrics import measure_kafka
from headrace.runtime.management import add_management
from headrace.runtime.metrics import Metrics, MetricsFlusher
from headrace.runtime.process import ExitCode, tune_gc
from headrace.runtime.service import Component, Service
from headrace.runtime.settings import (
    KafkaSettings,
    LogSettings,
    ManagementSettings,
    NatsSettings,
)
from headrace.runtime.sockets import MANAGEMENT_PORT, listen
from headrace.runtime.traced_ports import traced_log
from headrace.runtime.tracing import Tracing, add_tracing
from headrace.runtime.watchdog import Watchdog
from headrace_ingress.failpoint_log import log_with_failpoints
from headrace_ingress.ingress import Ingress
from headrace_ingress.settings import IngressSettings
from headrace_ingress.worker_process import ParentLink
from headrace_ingress.worker_supervisor import WorkerSupervisor, shared_metrics

__all__ = [
    "Ingress",
    "IngressBackends",
    "compose",
    "compose_workers",
    "kafka_backends",
    "run",
    "run_worker",
]

_NAME_IN_TRACES = "headrace-ingress"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressBackends:
    """The backends of an ingress. `components` start before it in this order and stop after it."""

    log: Log
    routes: RoutingReader
    instances: Instances
    warm_up: Callable[[float], Awaitable[None]]
    components: tuple[tuple[str, Component], ...] = ()
    measurements: ClientMeasurements | None = None
    """Of the Kafka clients of these backends."""

    def adding(
        self, backend: str, log: Log, *components: tuple[str, Component]
    ) -> "IngressBackends":
        """Return these, with the log of one more backend for events."""
        return replace(
            self,
            log=LogByBackend.adding(self.log, backend, log),
            components=(*self.components, *components),
        )


def kafka_backends(
    settings: IngressSettings,
    kafka: KafkaSettings,
    *,
    client_id: str = "headrace-ingress",
    served: Collection[str] = (KAFKA,),
) -> IngressBackends:
    """Return backends that all use Kafka. `served` are the backends whose routes are read; the
    caller adds the logs of the others.
    """
    options, credentials = renewed_options(kafka, client_id)
    log = KafkaLog(options, log=settings.log_options())
    instances = KafkaInstances(options, log, SystemClock(), follow=False)

    async def warm_up(seconds: float) -> None:
        await log.warm_up(seconds, topic=INSTANCES_TOPIC)

    return IngressBackends(
        log=log,
        routes=KafkaRoutingReader(options, start_seconds=READINESS_REPORT_SECONDS, backends=served),
        instances=instances,
        warm_up=warm_up,
        components=(
            ("ingress credentials", credentials),
            ("ingress log", log),
            ("ingress instances", instances),
        ),
        measurements=options.measurements,
    )


def all_backends(
    settings: IngressSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    *,
    served: Sequence[str] = (KAFKA,),
) -> IngressBackends:
    """Return the backends of a process: those of Kafka, with JetStream if NATS servers are set."""
    served = (*served, JETSTREAM) if nats.servers else served
    return with_jetstream(kafka_backends(settings, kafka, served=served), settings, nats)


def with_jetstream(
    backends: IngressBackends, settings: IngressSettings, nats: NatsSettings
) -> IngressBackends:
    """Return the backends, with JetStream if NATS servers are set."""
    connection = nats.options("headrace-ingress")
    if connection is None:
        return backends
    from headrace.adapters.nats.log import JetStreamLog
    from headrace.adapters.nats.options import JetStreamLogOptions

    limits = JetStreamLogOptions(
        delivery_seconds=settings.produce_seconds,
        topic_bytes_max=settings.log_options().topic_bytes_max,
    )
    log = JetStreamLog(connection, log=limits)
    return backends.adding(JETSTREAM, log, ("ingress JetStream log", log))


def compose(
    service: Service,
    settings: IngressSettings,
    backends: IngressBackends,
    metrics: Metrics,
    *,
    listener: socket.socket | None = None,
    tracing: Tracing | None = None,
) -> Ingress:
    """Add an ingress and its backends to `service`. Raises what `Ingress` raises."""
    ingress = Ingress(
        settings,
        log=traced_log(log_with_failpoints(backends.log), tracing),
        routes=backends.routes,
        metrics=metrics,
        instances=backends.instances,
        warm_up=backends.warm_up,
        listener=listener,
        tracing=tracing,
    )
    measure_kafka(metrics, "ingress", backends.routes.table, backends.measurements)
    for name, component in backends.components:
        service.add(name, component)
    service.add("ingress", ingress)
    service.health.add("ingress-kafka", ingress.unacknowledged_since)
    return ingress


def compose_workers(
    service: Service,
    settings: IngressSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    logs: LogSettings,
    metrics: Metrics,
) -> WorkerSupervisor:
    """Add the supervisor of several ingress processes to `service`. Call it within
    `shared_metrics`. Raises what `WorkerSupervisor` raises.
    """
    workers = WorkerSupervisor(settings, kafka, nats, logs)
    service.add("ingress", workers)
    exits = metrics.counter(
        "ingress_worker_exits", "Worker processes that ended and were started again."
    ).labels()

    def update() -> None:
        exits.value = workers.exits

    metrics.before_scrape(update)
    return workers


async def run(
    settings: IngressSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    management: ManagementSettings,
    logs: LogSettings,
) -> ExitCode:
    """Accept events until a signal arrives; return the exit code."""
    if settings.workers > 1:
        with shared_metrics():
            return await _run_workers(settings, kafka, nats, management, logs)
    metrics, service = Metrics(), _service(settings)
    others = (settings, kafka, nats, logs)
    add_management(service, metrics, management, default_port=MANAGEMENT_PORT, others=others)
    compose(
        service,
        settings,
        all_backends(settings, kafka, nats),
        metrics,
        tracing=add_tracing(service, metrics, _NAME_IN_TRACES),
    )
    return await service.run(tune_gc)


async def run_worker(
    settings: IngressSettings, kafka: KafkaSettings, nats: NatsSettings, link: ParentLink
) -> ExitCode:
    """Run one of several processes that share the port of `settings`, until the parent exits or a
    signal arrives; return the exit code.

    Kafka clients are created here, in the new process, because their threads do not survive a fork.
    """
    metrics, service = (
        Metrics(),
        _service(replace(settings, shutdown_delay_seconds=0.0), "ingress worker"),
    )
    service.add("parent", link)
    link.attach(service.health, service.end)
    listener = listen(
        settings.host, settings.port, purpose="an ingress worker", option="--port", shared=True
    )
    service.add("metrics", MetricsFlusher(metrics))
    compose(
        service,
        settings,
        all_backends(settings, kafka, nats),
        metrics,
        listener=listener,
        tracing=add_tracing(service, metrics, _NAME_IN_TRACES),
    )
    return await service.run(tune_gc)


async def _run_workers(
    settings: IngressSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    management: ManagementSettings,
    logs: LogSettings,
) -> ExitCode:
    metrics, service = Metrics(), _service(settings)
    others = (settings, kafka, nats, logs)
    add_management(service, metrics, management, default_port=MANAGEMENT_PORT, others=others)
    compose_workers(service, settings, kafka, nats, logs, metrics)
    return await service.run()


def _service(settings: IngressSettings, name: str = "ingress") -> Service:
    service = Service(
        "ingress",
        health=Health(),
        shutdown_delay_seconds=settings.shutdown_delay_seconds,
        drain_seconds=settings.drain_seconds + settings.produce_seconds + 1.0,
    )
    service.add("watchdog", Watchdog(name, settings.watchdog_seconds))
    return service
