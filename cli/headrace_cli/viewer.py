"""`headrace viewer`: shows every event that is posted to a port. The implementation is in
`event_viewer.py`, which is loaded only when the command runs.
"""

from typing import Annotated

import typer

from headrace.runtime.sockets import VIEWER_PORT


def viewer(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            "--viewer-port",
            min=0,
            max=65_535,
            help="Port to listen on; 0 for any free port.",
        ),
    ] = VIEWER_PORT,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name allowed in the Host header on a loopback address; repeatable."),
    ] = None,
) -> None:
    """Show every event that is posted here, on any path."""
    from headrace.adapters.http.server_local_guard import names_of
    from headrace.runtime.loading import load
    from headrace.runtime.logging import configure
    from headrace.runtime.process import ExitCode
    from headrace.runtime.service import Service, run_service
    from headrace.runtime.settings import LogLevel, LogSettings
    from headrace_cli.console import EscapingConsole
    from headrace_cli.event_viewer import EventViewer

    configure(load(LogSettings, level=LogLevel.WARNING), service="viewer")

    async def main() -> ExitCode:
        service = Service("viewer")
        shown = EventViewer(
            EscapingConsole(), host=host, port=port, hosts=names_of(",".join(allow_host or ()))
        )
        service.add("viewer", shown)

        async def started() -> None:
            EscapingConsole(stderr=True).print(
                f"showing what is posted to http://{host}:{shown.port}/ (Ctrl-C ends)"
            )

        return await service.run(started)

    raise typer.Exit(run_service(main))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("viewer")(viewer)
