"""The process that serves in-memory channels, with settings that were read before:
`python -m headrace_cli.in_memory_process FD` (`headrace.runtime.exec_settings`).

The composition root of an ingress and a dispatcher over the memory of this process. Kafka has the
routing table, and the reports of live processes.
"""

import headrace.runtime.without_rich  # noqa: F401  # first: it keeps others out

# isort: split
import sys

import headrace_dispatcher.app
import headrace_ingress.app
from headrace.adapters.http.client_resolver import is_local
from headrace.adapters.http.system_authorities import system_authorities
from headrace.adapters.memory.backend import MemoryBackend
from headrace.domain.backend_name import IN_MEMORY
from headrace.domain.egress import ProtectedPort
from headrace.runtime import exec_settings
from headrace.runtime.logging import configure
from headrace.runtime.management import add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.process import ExitCode, exit_process, tune_gc
from headrace.runtime.service import Service, run_service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings
from headrace.runtime.sockets import IN_MEMORY_MANAGEMENT_PORT, other_services_ports
from headrace.runtime.tracing import add_tracing
from headrace.runtime.watchdog import Watchdog
from headrace_cli.in_memory_backend import add_to_dispatcher, add_to_ingress, measure_memory
from headrace_cli.in_memory_settings import InMemorySettings
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingress.settings import IngressSettings

_SERVED = (IN_MEMORY,)
_CLIENT_ID = "headrace-in-memory"
"""As the other services have: ACLs are for the groups that begin with it."""


async def run(
    settings: InMemorySettings,
    ingress: IngressSettings,
    dispatcher: DispatcherSettings,
    kafka: KafkaSettings,
    management: ManagementSettings,
    logs: LogSettings,
) -> ExitCode:
    """Accept and deliver events until a signal arrives; return the exit code."""
    metrics = Metrics()
    drain_seconds = headrace_dispatcher.app.drain_seconds(dispatcher)
    service = Service(
        "in-memory",
        shutdown_delay_seconds=ingress.shutdown_delay_seconds,
        drain_seconds=max(drain_seconds, ingress.drain_seconds),
    )
    poison_tracker = headrace_dispatcher.app.open_poison_tracker(dispatcher)
    seconds = min(ingress.watchdog_seconds, dispatcher.watchdog_seconds)
    service.add("watchdog", Watchdog("in-memory", seconds, evidence=poison_tracker.evidence))
    own = add_management(
        service,
        metrics,
        management,
        default_port=IN_MEMORY_MANAGEMENT_PORT,
        others=(settings, ingress, dispatcher, kafka, logs),
    )
    tracing = add_tracing(service, metrics, "headrace-in-memory")
    service.add("system authorities", system_authorities())
    memory = MemoryBackend(bytes_max=settings.bytes_max, drain_seconds=dispatcher.drain_seconds)
    service.add("in-memory channels", memory)
    measure_memory(metrics, memory)
    delivery = headrace_dispatcher.app.kafka_backends(
        dispatcher, kafka, client_id=_CLIENT_ID, served=_SERVED
    )
    ports = (
        ProtectedPort(own.host, own.port, "the management port of this process"),
        *other_services_ports(),
    )
    headrace_dispatcher.app.compose(
        service,
        dispatcher,
        add_to_dispatcher(delivery, memory),
        metrics,
        dispatcher.egress(protected_ports=ports, is_local=is_local),
        poison_tracker=poison_tracker,
        tracing=tracing,
    )
    acceptance = headrace_ingress.app.kafka_backends(
        ingress, kafka, client_id=_CLIENT_ID, served=_SERVED
    )
    headrace_ingress.app.compose(
        service, ingress, add_to_ingress(acceptance, memory), metrics, tracing=tracing
    )
    return await service.run(tune_gc)


def main() -> int:
    """Take the settings, and run with them."""
    given = exec_settings.read(int(sys.argv[1]))
    logs = given.take("logs", LogSettings)
    configure(logs, service="in-memory")
    return run_service(
        lambda: run(
            given.take("own", InMemorySettings),
            given.take("ingress", IngressSettings),
            given.take("dispatcher", DispatcherSettings),
            given.take("kafka", KafkaSettings),
            given.take("management", ManagementSettings),
            logs,
        )
    )


if __name__ == "__main__":
    exit_process(main())
