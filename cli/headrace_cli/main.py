"""The `headrace` command: one typer application, a module per command."""

from typing import Annotated

import typer

from headrace import __version__
from headrace_cli import filter as filter_command
from headrace_cli import health, resources, services, up, viewer

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,
    help="Knative Eventing on Kafka, with or without Kubernetes.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Knative Eventing on Kafka, with or without Kubernetes."""


for command in (up, resources, filter_command, viewer, health, services):
    command.register(app)


def main() -> None:
    """Run the command line."""
    app()
