"""`headrace config show`: the settings with which a service would start in this environment, and
where each one comes from.

Exit codes: 0 success; 2 an invalid setting, as the service itself reports it.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import typer

from headrace.runtime.configuration import Value, configuration
from headrace.runtime.loading import load, set_in
from headrace.runtime.process import ExitCode
from headrace.runtime.settings import BadSettings, Settings, variables
from headrace.runtime.sockets import (
    CONTROLLER_MANAGEMENT_PORT,
    DISPATCHER_MANAGEMENT_PORT,
    IN_MEMORY_MANAGEMENT_PORT,
    IN_MEMORY_PORT,
    MANAGEMENT_PORT,
    SOURCES_MANAGEMENT_PORT,
)
from headrace_cli.environment import SHARED, reject_misspelt_variables
from headrace_cli.resource_output import (
    OutputFormat,
    print_document,
    print_rows,
    refuse_object_outputs,
)
from headrace_cli.services import KUBECONFIG, KUBECONFIG_VARIABLE, ServiceName
from headrace_cli.terminal import echo, printable

_CELL_MAX = 300
_PORT = "HEADRACE_MANAGEMENT_PORT"


class Origin(StrEnum):
    """Where a value comes from."""

    ENVIRONMENT = "environment"
    DEFAULT = "default"


_COMMAND_DEFAULTS: Mapping[ServiceName, Mapping[str, Value]] = {
    ServiceName.INGRESS: {_PORT: MANAGEMENT_PORT},
    ServiceName.DISPATCHER: {_PORT: DISPATCHER_MANAGEMENT_PORT},
    ServiceName.CONTROLLER: {
        _PORT: CONTROLLER_MANAGEMENT_PORT,
        KUBECONFIG_VARIABLE: str(KUBECONFIG),
    },
    ServiceName.SOURCES: {_PORT: SOURCES_MANAGEMENT_PORT},
    ServiceName.IN_MEMORY: {
        _PORT: IN_MEMORY_MANAGEMENT_PORT,
        "HEADRACE_INGRESS_PORT": IN_MEMORY_PORT,
    },
}
"""Defaults that differ from service to service: those of the command, by variable."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    text = "Show the settings of a service."
    group = typer.Typer(no_args_is_help=True, help=text, short_help=text)
    # Without a callback, a group of one command is that command.
    group.callback()(lambda: None)
    group.command("show")(show)
    app.add_typer(group, name="config")


def show(
    service: Annotated[ServiceName, typer.Argument(help="The service.")],
    output: Annotated[
        OutputFormat, typer.Option("--output", "-o", help="table, json or yaml.")
    ] = OutputFormat.TABLE,
) -> None:
    """Show the settings with which a service would start here, and where each comes from.

    Options of its command line count before these. `/configz` on the management port shows what a
    process that runs uses.
    """
    refuse_object_outputs(output)
    own = _own_settings(service)
    kinds: Sequence[type[Settings]] = (*own, *SHARED)
    try:
        reject_misspelt_variables(own)
        settings = [load(kind) for kind in kinds]
    except BadSettings as error:
        echo(f"headrace {service}: {error}", err=True)
        raise typer.Exit(ExitCode.NOT_STARTED) from None
    rows = [row for each in settings for row in _rows(each, _COMMAND_DEFAULTS[service])]
    if output is OutputFormat.TABLE:
        print_rows(
            ("VARIABLE", "VALUE", "SOURCE"),
            [(name, printable(_cell(value), _CELL_MAX), origin) for name, value, origin in rows],
        )
    else:
        items = [
            {"variable": name, "value": value, "source": str(origin)}
            for name, value, origin in rows
        ]
        print_document({"items": items}, output)


def _own_settings(service: ServiceName) -> Sequence[type[Settings]]:
    """Return the settings of one service. Only its package is imported: an image has one."""
    match service:
        case ServiceName.INGRESS:
            from headrace_ingress.settings import IngressSettings

            return (IngressSettings,)
        case ServiceName.DISPATCHER:
            from headrace_dispatcher.settings import DispatcherSettings

            return (DispatcherSettings,)
        case ServiceName.CONTROLLER:
            from headrace_controller.settings import ControllerSettings, KubernetesSettings

            return (ControllerSettings, KubernetesSettings)
        case ServiceName.SOURCES:
            from headrace_sources.settings import SourcesSettings

            return (SourcesSettings,)
        case ServiceName.IN_MEMORY:
            from headrace_cli.in_memory_settings import InMemorySettings
            from headrace_dispatcher.settings import DispatcherSettings
            from headrace_ingress.settings import IngressSettings

            return (InMemorySettings, IngressSettings, DispatcherSettings)


def _rows(settings: Settings, defaults: Mapping[str, Value]) -> Iterator[tuple[str, Value, Origin]]:
    given, values = set_in(type(settings)), configuration((settings,))
    for field, names in variables(type(settings)).items():
        if field in given:
            yield given[field], values[names[0]], Origin.ENVIRONMENT
        else:
            yield names[0], defaults.get(names[0], values[names[0]]), Origin.DEFAULT


def _cell(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None or value == "" else str(value)
