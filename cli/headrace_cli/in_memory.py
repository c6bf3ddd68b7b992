"""`headrace in-memory`: runs the process that serves in-memory channels, where the other services
run in processes of their own. It is ingress and dispatcher in one, because its events are in its
memory.
"""

import os
from typing import Annotated

import typer

from headrace.runtime.loading import load, reject_unknown_variables
from headrace.runtime.sockets import IN_MEMORY_PORT
from headrace_cli.services import (
    BootstrapServers,
    Host,
    ManagementHost,
    ManagementPort,
    Port,
    serve,
)


def in_memory(
    bootstrap_servers: BootstrapServers = None,
    host: Host = None,
    port: Port = None,
    bytes_max: Annotated[
        int | None,
        typer.Option("--bytes-max", help="Memory for events; default: 256 MiB."),
    ] = None,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Accept and deliver the events of in-memory channels. What is not delivered when the process
    ends is lost. `headrace up` serves these channels itself.

    More settings: environment variables HEADRACE_IN_MEMORY_*, HEADRACE_INGRESS_*,
    HEADRACE_DISPATCHER_* and HEADRACE_KAFKA_*.
    """
    from headrace_cli.in_memory_settings import InMemorySettings
    from headrace_dispatcher.settings import DispatcherSettings
    from headrace_ingress.settings import IngressSettings

    def parts() -> dict[str, IngressSettings | DispatcherSettings]:
        reject_unknown_variables((IngressSettings, DispatcherSettings))
        return {
            "ingress": load(
                IngressSettings,
                host=host,
                port=_default_port() if port is None else port,
                workers=1,
            ),
            "dispatcher": load(DispatcherSettings),
        }

    serve(
        "in-memory",
        lambda: load(InMemorySettings, bytes_max=bytes_max),
        module="headrace_cli.in_memory_process",
        kafka={"bootstrap_servers": bootstrap_servers},
        management={"host": management_host, "port": management_port},
        more=parts,
    )


def _default_port() -> int | None:
    """The port if neither an option nor a variable says another."""
    return None if os.environ.get("HEADRACE_INGRESS_PORT") else IN_MEMORY_PORT


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("in-memory", rich_help_panel="Services")(in_memory)
