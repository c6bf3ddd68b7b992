"""The ingress as a process of its own, or as several that share a port: adapters made, parts put in order, life begun."""

import socket

from headrace.adapters.kafka.instances import INSTANCES_TOPIC, KafkaInstances
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.routing import KafkaRoutingFollower
from headrace.runtime.clock import SystemClock
from headrace.runtime.collector import tune_collector
from headrace.runtime.health import Health
from headrace.runtime.management import management_server
from headrace.runtime.metrics import Flusher, Metrics
from headrace.runtime.ports import MANAGEMENT_PORT, listen
from headrace.runtime.service import ExitCode, Service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings
from headrace_ingress.ingress import Ingress
from headrace_ingress.settings import IngressSettings
from headrace_ingress.worker import ParentLink
from headrace_ingress.workers import Workers, shared_metrics

__all__ = ["Ingress", "add_parts", "run", "run_worker"]

_FOREVER_SECONDS = 10 * 365 * 86_400.0
"""A routing table that cannot be read yet is a reason to be not ready, never one to give up."""


async def run(
    settings: IngressSettings,
    kafka: KafkaSettings | None = None,
    management: ManagementSettings | None = None,
    logs: LogSettings | None = None,
) -> ExitCode:
    """Take events until a signal comes; return the exit code. What is not given comes from the environment."""
    kafka, management = kafka or KafkaSettings(), management or ManagementSettings()
    if settings.workers > 1:
        with shared_metrics():
            return await _run_workers(settings, kafka, management, logs or LogSettings())
    health, metrics = Health(), Metrics()
    service = _service(settings, health)
    _add_management(service, management, health, metrics)
    add_parts(service, settings, kafka, health, metrics)
    return await service.run(tune_collector)


async def run_worker(settings: IngressSettings, kafka: KafkaSettings, link: ParentLink) -> ExitCode:
    """Be one of several processes on the port of `settings`, until the parent or a signal says so; return the exit code.

    Kafka clients are made here, in the new process, because their threads do not survive a fork.
    """
    health, metrics = Health(), Metrics()
    service = _service(settings.model_copy(update={"shutdown_delay_seconds": 0.0}), health)
    service.add("parent", link)
    link.attach(health, service.end)
    listener = listen(settings.host, settings.port, purpose="an ingress worker", option="--port", shared=True)
    add_parts(service, settings, kafka, health, metrics, listener=listener)
    return await service.run(tune_collector)


def add_parts(
    service: Service,
    settings: IngressSettings,
    kafka: KafkaSettings,
    health: Health,
    metrics: Metrics,
    *,
    listener: socket.socket | None = None,
) -> Ingress:
    """Put the parts of one ingress process into `service`. Raises what `Ingress` does."""
    options = kafka.options("headrace-ingress")
    log = KafkaLog(options, log=settings.log_options())
    instances = KafkaInstances(options, log, SystemClock(), follow=False)

    async def warm_up(seconds: float) -> None:
        await log.warm_up(seconds, topic=INSTANCES_TOPIC)

    ingress = Ingress(
        settings,
        log=log,
        routes=KafkaRoutingFollower(options, start_seconds=_FOREVER_SECONDS),
        metrics=metrics,
        instances=instances,
        warm_up=warm_up,
        listener=listener,
    )
    health.add("ingress", ingress.not_ready)
    service.add("metrics", Flusher(metrics))
    service.add("log", log)
    service.add("instances", instances)
    service.add("ingress", ingress)
    return ingress


async def _run_workers(settings: IngressSettings, kafka: KafkaSettings, management: ManagementSettings, logs: LogSettings) -> ExitCode:
    health, metrics = Health(), Metrics()
    service = _service(settings, health)
    _add_management(service, management, health, metrics)
    workers = Workers(settings, kafka, logs)
    health.add("workers", workers.not_ready)
    service.add("workers", workers)
    return await service.run()


def _service(settings: IngressSettings, health: Health) -> Service:
    return Service(
        "ingress",
        health=health,
        shutdown_delay_seconds=settings.shutdown_delay_seconds,
        drain_seconds=settings.drain_seconds + settings.produce_seconds + 1.0,
    )


def _add_management(service: Service, management: ManagementSettings, health: Health, metrics: Metrics) -> None:
    port = MANAGEMENT_PORT if management.port is None else management.port
    service.add("management", management_server("ingress", health, metrics, host=management.host, port=port))
