"""Refuses environment variables `HEADRACE_*` that nothing in Headrace reads: a typo must not mean
the default silently.

A process may have the variables of other services and of tools: images and compose files share
them.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Final

from headrace.runtime.loading import known_variables, reject_unknown_variables, unknown_variable
from headrace.runtime.settings import (
    KafkaSettings,
    LogSettings,
    ManagementSettings,
    NatsSettings,
    Settings,
)

SHARED: Final = (KafkaSettings, LogSettings, ManagementSettings, NatsSettings)
"""The settings that every service has."""
SETTINGS: Final[Mapping[str, tuple[str, str]]] = {
    "HEADRACE_INGRESS_": ("headrace_ingress.settings", "IngressSettings"),
    "HEADRACE_DISPATCHER_": ("headrace_dispatcher.settings", "DispatcherSettings"),
    "HEADRACE_SOURCES_": ("headrace_sources.settings", "SourcesSettings"),
    "HEADRACE_IN_MEMORY_": ("headrace_cli.in_memory_settings", "InMemorySettings"),
    "HEADRACE_CONTROLLER_": ("headrace_controller.settings", "ControllerSettings"),
    "HEADRACE_KUBERNETES_": ("headrace_controller.settings", "KubernetesSettings"),
}
"""The settings of each service, by prefix. Imported only when there is a variable of that prefix:
those of the controller take 0.2 s.
"""
COMMAND_VARIABLES: Final = frozenset(
    {
        "HEADRACE_API_TOKEN_FILE",
        "HEADRACE_CERTIFICATE_AUTHORITY",
        "HEADRACE_INGRESS",
        "HEADRACE_KUBERNETES",
        "HEADRACE_SERVER",
    }
)
"""Those of options."""
COMPOSE_VARIABLES: Final = frozenset(
    {
        "HEADRACE_CONTROLLER_MANAGEMENT_PORT",
        "HEADRACE_DISPATCHER_MANAGEMENT_PORT",
        "HEADRACE_GRAFANA_PORT",
        "HEADRACE_IN_MEMORY_MANAGEMENT_PORT",
        "HEADRACE_IN_MEMORY_PORT",
        "HEADRACE_INGRESS_MANAGEMENT_PORT",
        "HEADRACE_JAEGER_PORT",
        "HEADRACE_PROMETHEUS_PORT",
        "HEADRACE_SOURCES_MANAGEMENT_PORT",
        "HEADRACE_TRACES_BACKEND_URL",
    }
)
"""Those of docker-compose.yml that no service reads."""
_PREFIX: Final = "HEADRACE_"
_TEST_PREFIXES: Final = ("HEADRACE_TEST", "HEADRACE_CRASH_AT", "HEADRACE_STALL_")
"""Of the project's tests and of failpoints."""
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_SERVICE_URLS: Final = tuple(f"{protocol}://" for protocol in _PROTOCOLS)
_SERVICE_PORT_ENDS: Final = tuple(
    f"_{protocol.upper()}_{part}" for protocol in _PROTOCOLS for part in ("PROTO", "PORT", "ADDR")
)


def reject_misspelt_variables(
    own: Iterable[type[Settings]], environ: Mapping[str, str] = os.environ
) -> None:
    """Raise `BadSettings` for a variable with the prefix of one of the settings in `own` that none
    of them reads, and for one that begins with `HEADRACE_` and that no service or tool reads.
    """
    own = (*own, *SHARED)
    reject_unknown_variables(own, environ)
    known = known_variables(own) | COMMAND_VARIABLES | COMPOSE_VARIABLES
    for name, value in environ.items():
        upper = name.upper()
        if (
            not upper.startswith(_PREFIX)
            or upper in known
            or upper.startswith(_TEST_PREFIXES)
            or _is_service_link(upper, value)
        ):
            continue
        prefixes = [prefix for prefix in SETTINGS if upper.startswith(prefix)]
        if upper not in known_variables(_settings(prefixes)):
            raise unknown_variable(name, known | known_variables(_settings(SETTINGS)))


def _settings(prefixes: Iterable[str]) -> Iterator[type[Settings]]:
    for prefix in prefixes:
        module, name = SETTINGS[prefix]
        yield getattr(import_module(module), name)


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes sets this in a pod for a Service of its namespace, here called NAME:
    `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT` and `NAME_SERVICE_PORT_HTTP`, `NAME_PORT` and
    `NAME_PORT_80_TCP` with a URL, and the parts of that.
    """
    return (
        name.endswith("_SERVICE_HOST")
        or "_SERVICE_PORT" in name
        or ("_PORT" in name and value.startswith(_SERVICE_URLS))
        or ("_PORT_" in name and name.endswith(_SERVICE_PORT_ENDS))
    )
