"""`headrace health`: prints a health page and returns the result as exit code. Containers run
`headrace.runtime.probe`, which starts faster.
"""

from typing import Annotated

import typer

from headrace.runtime.probe import probe
from headrace_cli.terminal import echo


def health(
    url: Annotated[
        str, typer.Argument(help="URL of a /readyz, /livez or /healthz page.")
    ] = "http://127.0.0.1:9464/readyz?verbose",
) -> None:
    """Exit with 0 if the page reports ok (2xx), otherwise with 1 and the reason."""
    healthy, text = probe(url)
    echo(text, err=not healthy)
    raise typer.Exit(0 if healthy else 1)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("health")(health)
