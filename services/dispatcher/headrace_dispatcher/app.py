"""The dispatcher as a process of its own: adapters made, parts put in order, life begun."""

import random

from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.kafka.feeds import KafkaFeeds
from headrace.adapters.kafka.instances import KafkaInstances
from headrace.adapters.kafka.producer import KafkaLog, LogOptions
from headrace.adapters.kafka.routing import KafkaRoutingFollower
from headrace.runtime.clock import SystemClock
from headrace.runtime.collector import tune_collector
from headrace.runtime.crashpoints import reach
from headrace.runtime.health import Health
from headrace.runtime.management import management_server
from headrace.runtime.metrics import Flusher, Metrics
from headrace.runtime.ports import DISPATCHER_MANAGEMENT_PORT
from headrace.runtime.presence import instance_name
from headrace.runtime.service import ExitCode, Service
from headrace.runtime.settings import KafkaSettings, ManagementSettings
from headrace_dispatcher.dispatcher import Dispatcher
from headrace_dispatcher.settings import DispatcherSettings


async def run(settings: DispatcherSettings, kafka: KafkaSettings, management: ManagementSettings) -> ExitCode:
    """Deliver until a signal comes; return the exit code."""
    options = kafka.options("headrace-dispatcher")
    clock, health, metrics = SystemClock(), Health(), Metrics()
    service = Service("dispatcher", health=health, drain_seconds=settings.drain_seconds + 20.0, stop_seconds=20.0)
    port = DISPATCHER_MANAGEMENT_PORT if management.port is None else management.port
    service.add("management", management_server("dispatcher", health, metrics, host=management.host, port=port))
    service.add("metrics", Flusher(metrics))
    log = KafkaLog(options, log=LogOptions(topic_bytes_max=settings.append_bytes_max))
    service.add("log", log)
    instances = KafkaInstances(options, log, clock, follow=False)
    service.add("instances", instances)
    dispatcher = Dispatcher(
        instance_id=instance_name("dispatcher"),
        log=log,
        feeds=KafkaFeeds(
            options,
            instance=settings.instance,
            drain_seconds=settings.drain_seconds,
            reach=reach,
            choose_protocol=kafka.group_protocol is None,
            bytes_max=settings.bytes_max,
        ),
        sender=HttpSender(ClientOptions(body_bytes_max=settings.reply_bytes_max)),
        routes=KafkaRoutingFollower(options),
        instances=instances,
        clock=clock,
        jitter=lambda: random.uniform(-1.0, 1.0),
        limits=settings.limits(),
        metrics=metrics,
    )
    health.add("dispatcher", dispatcher.not_ready)
    service.add("dispatcher", dispatcher)
    return await service.run(tune_collector)
