"""The composition root of the dispatcher process.

`compose` is the one place that creates a `Dispatcher`, over any adapters; `kafka_backends` creates
those used in production.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from headrace.adapters.by_backend import FeedsByBackend, LogByBackend
from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.http.client_resolver import is_local
from headrace.adapters.http.system_authorities import system_authorities
from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.adapters.kafka.consumer.feeds import Readers
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.control.instances import KafkaInstances
from headrace.adapters.kafka.control.routing import READINESS_REPORT_SECONDS, KafkaRoutingReader
from headrace.adapters.kafka.feeds_with_backlog import FeedsWithBacklog
from headrace.adapters.kafka.options import KafkaOptions, LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.backend_name import JETSTREAM, KAFKA
from headrace.domain.egress import EgressPolicy, ProtectedPort
from headrace.domain.ports import Feeds, Instances, Log, RoutingReader
from headrace.runtime.clock import SystemClock
from headrace.runtime.heartbeat import instance_name
from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.kafka_metrics import measure_kafka
from headrace.runtime.management import add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.process import ExitCode, tune_gc
from headrace.runtime.service import CloseOnStop, Component, Service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings, NatsSettings
from headrace.runtime.sockets import DISPATCHER_MANAGEMENT_PORT, other_services_ports
from headrace.runtime.traced_ports import TracedSender, traced_log
from headrace.runtime.tracing import Tracing, add_tracing
from headrace.runtime.watchdog import Watchdog
from headrace_dispatcher.dispatcher import Dispatcher
from headrace_dispatcher.metrics import measure_client
from headrace_dispatcher.poison_tracker import PoisonTracker, TopicGuard, default_directory
from headrace_dispatcher.settings import DispatcherSettings

_LEAVE_SECONDS = 20.0
"""After draining: to leave the groups and see the last retry records and dead letters stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherBackends:
    """The adapters of a dispatcher. `components` start before it, in this order, and stop after
    it.
    """

    log: Log
    feeds: Feeds
    routes: RoutingReader
    instances: Instances
    components: tuple[tuple[str, Component], ...] = ()
    measurements: ClientMeasurements | None = None
    """Of the Kafka clients of these backends."""

    def adding(
        self, backend: str, log: Log, feeds: Feeds, *components: tuple[str, Component]
    ) -> "DispatcherBackends":
        """Return these, with the log and the feeds of one more backend for events."""
        return replace(
            self,
            log=LogByBackend.adding(self.log, backend, log),
            feeds=FeedsByBackend.adding(self.feeds, backend, feeds),
            components=(*self.components, *components),
        )


def kafka_backends(
    settings: DispatcherSettings,
    kafka: KafkaSettings,
    *,
    client_id: str = "headrace-dispatcher",
    served: Collection[str] = (KAFKA,),
    poison_tracker: PoisonTracker | None = None,
) -> DispatcherBackends:
    """Adapters for Kafka. `served` are the backends whose routes are read; the caller adds the logs
    and feeds of the others.
    """
    options, credentials = renewed_options(kafka, client_id)
    log = KafkaLog(options, log=LogOptions(topic_bytes_max=settings.append_bytes_max))
    instances = KafkaInstances(options, log, SystemClock(), follow=False)
    # A process that serves no topics of Kafka joins no group.
    choose_protocol = kafka.group_protocol is None and KAFKA in served
    feeds = kafka_feeds(
        settings,
        options,
        choose_protocol=choose_protocol,
        shared_readers=settings.shared_readers and KAFKA in served,
        poison_tracker=poison_tracker,
    )
    return DispatcherBackends(
        log=log,
        feeds=feeds,
        routes=KafkaRoutingReader(options, start_seconds=READINESS_REPORT_SECONDS, backends=served),
        instances=instances,
        components=(
            ("dispatcher credentials", credentials),
            ("dispatcher log", log),
            ("dispatcher instances", instances),
            ("feeds", CloseOnStop(feeds.close)),
        ),
        measurements=options.measurements,
    )


def all_backends(
    settings: DispatcherSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    *,
    served: Sequence[str] = (KAFKA,),
    poison_tracker: PoisonTracker | None = None,
) -> DispatcherBackends:
    """The backends of a process: those of Kafka, with JetStream if NATS servers are set."""
    served = (*served, JETSTREAM) if nats.servers else served
    backends = kafka_backends(settings, kafka, served=served, poison_tracker=poison_tracker)
    return with_jetstream(backends, settings, nats)


def with_jetstream(
    backends: DispatcherBackends, settings: DispatcherSettings, nats: NatsSettings
) -> DispatcherBackends:
    """The backends, with JetStream if NATS servers are set."""
    connection = nats.options("headrace-dispatcher")
    if connection is None:
        return backends
    from headrace.adapters.nats.feeds import JetStreamFeeds
    from headrace.adapters.nats.log import JetStreamLog
    from headrace.adapters.nats.options import JetStreamLogOptions

    limits = JetStreamLogOptions(topic_bytes_max=settings.append_bytes_max)
    log = JetStreamLog(connection, log=limits)
    feeds = JetStreamFeeds(connection, drain_seconds=settings.drain_seconds)
    return backends.adding(
        JETSTREAM,
        log,
        feeds,
        ("dispatcher JetStream log", log),
        ("JetStream feeds", CloseOnStop(feeds.close)),
    )


def kafka_feeds(
    settings: DispatcherSettings,
    options: KafkaOptions,
    *,
    choose_protocol: bool,
    fetch_wait_ms: int = 500,
    shared_readers: bool = False,
    poison_tracker: PoisonTracker | None = None,
) -> FeedsWithBacklog:
    """The feeds of one process, by its settings. With `shared_readers`, the subscriptions of a
    channel share a reader.
    """
    tracker = poison_tracker or PoisonTracker()

    def create_readers(shared: SharedConsumerResources) -> Readers:
        # Not before it is used: in-memory channels are served without the library for it.
        from headrace.adapters.kafka.channel_reader.channel_readers import ChannelReaders

        return ChannelReaders(shared, lambda topic: TopicGuard(tracker, topic))

    return FeedsWithBacklog(
        options,
        instance=settings.instance,
        drain_seconds=settings.drain_seconds,
        fetch_wait_ms=fetch_wait_ms,
        choose_protocol=choose_protocol,
        bytes_max=settings.bytes_max,
        create_readers=create_readers if shared_readers else None,
    )


def compose(
    service: Service,
    settings: DispatcherSettings,
    backends: DispatcherBackends,
    metrics: Metrics,
    egress: EgressPolicy,
    *,
    poison_tracker: PoisonTracker | None = None,
    tracing: Tracing | None = None,
) -> Dispatcher:
    """Put a dispatcher and what it needs into `service`.

    `egress` says where it may post to; `poison_tracker` is created once for each process.
    """
    sender = HttpSender(ClientOptions(bodies_bytes_max=settings.bytes_max, address_denied=egress))
    measure_client(metrics, sender.counts)
    dispatcher = Dispatcher(
        instance_id=instance_name("dispatcher"),
        log=traced_log(backends.log, tracing),
        feeds=backends.feeds,
        sender=sender if tracing is None else TracedSender(sender, tracing),
        routes=backends.routes,
        instances=backends.instances,
        clock=SystemClock(),
        jitter=lambda: random.uniform(-1.0, 1.0),
        limits=settings.limits(),
        metrics=metrics,
        poison_tracker=poison_tracker,
        tracing=tracing,
    )
    measure_kafka(metrics, "dispatcher", backends.routes.table, backends.measurements)
    for name, component in backends.components:
        service.add(name, component)
    service.add("dispatcher", dispatcher)
    service.health.add("dispatcher-kafka", dispatcher.unacknowledged_since)
    return dispatcher


async def run(
    settings: DispatcherSettings,
    kafka: KafkaSettings,
    nats: NatsSettings,
    management: ManagementSettings,
    logs: LogSettings,
) -> ExitCode:
    """Deliver until a signal is received; return the exit code."""
    metrics = Metrics()
    service = Service(
        "dispatcher", drain_seconds=drain_seconds(settings), stop_seconds=_LEAVE_SECONDS
    )
    poison_tracker = open_poison_tracker(settings)
    service.add(
        "watchdog",
        Watchdog("dispatcher", settings.watchdog_seconds, evidence=poison_tracker.evidence),
    )
    own = add_management(
        service,
        metrics,
        management,
        default_port=DISPATCHER_MANAGEMENT_PORT,
        others=(settings, kafka, nats, logs),
    )
    ports = (
        ProtectedPort(own.host, own.port, "the management port of the dispatcher"),
        *other_services_ports(DISPATCHER_MANAGEMENT_PORT),
    )
    egress = settings.egress(protected_ports=ports, is_local=is_local)
    service.add("system authorities", system_authorities())
    compose(
        service,
        settings,
        all_backends(settings, kafka, nats, poison_tracker=poison_tracker),
        metrics,
        egress,
        poison_tracker=poison_tracker,
        tracing=add_tracing(service, metrics, "headrace-dispatcher"),
    )
    return await service.run(tune_gc)


def open_poison_tracker(settings: DispatcherSettings) -> PoisonTracker:
    """The tracker of the record being processed; without a directory when there is no watchdog."""
    return PoisonTracker(
        (settings.state_directory or default_directory()) if settings.watchdog_seconds else None
    )


def drain_seconds(settings: DispatcherSettings) -> float:
    """How long a process with a dispatcher in it may drain."""
    return settings.drain_seconds + _LEAVE_SECONDS
