"""The `headrace` command: one typer application, one module per command.

Only the module of the requested command is imported, so that services start faster.
"""

import importlib
import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import typer

from headrace import __version__

COMMANDS: Mapping[str, Collection[str]] = {
    "up": ("up",),
    "resources": ("apply", "get", "delete"),
    "send": ("send",),
    "event_types": ("types",),
    "dead_letters": ("dead-letters",),
    "filter": ("filter",),
    "viewer": ("viewer",),
    "health": ("health",),
    "config": ("config",),
    "acls": ("acls",),
    "services": ("ingress", "dispatcher", "controller", "sources"),
    "in_memory": ("in-memory",),
}
"""Modules of this package, in the order of the help page, and the commands that each registers."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Knative Eventing on Kafka, with or without Kubernetes."""


def application(arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the command that the arguments name, or with all commands if they
    name none.
    """
    app = typer.Typer(
        name="headrace",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_options)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), "")
    modules = [module for module, commands in COMMANDS.items() if wanted in commands] or list(
        COMMANDS
    )
    for module in modules:
        try:
            importlib.import_module(f"headrace_cli.{module}").register(app)
        except ModuleNotFoundError as error:
            # In the image of a service some cannot run; the list of commands is of use there too.
            if len(modules) == 1 or not error.name or error.name.startswith("headrace"):
                raise
            _register_unavailable(app, COMMANDS[module], error.name.partition(".")[0])
    for command in app.registered_commands:
        # The list of commands would show the line breaks of the docstring.
        paragraph = (inspect.getdoc(command.callback) or "").partition("\n\n")[0]
        command.short_help = " ".join(paragraph.split())
    return app


def _register_unavailable(app: typer.Typer, commands: Collection[str], library: str) -> None:
    """Add commands that cannot run here to the list of commands."""
    for name in commands:
        text = f"Needs {library}: use the extra or the image cli."
        app.command(name, help=text, rich_help_panel="Not in this installation")(lambda: None)


def main() -> None:
    """Run the command line."""
    application(sys.argv[1:])()
