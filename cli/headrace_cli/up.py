"""`headrace up`: runs everything in one process on this machine, with sample resources. The
services are in `local.py`, which is loaded only when they run.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.domain.errors import HeadraceError, Temporary
from headrace.runtime.sockets import VIEWER_PORT
from headrace_cli.terminal import echo

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.adapters.kafka.local.kafka_server import ApacheKafka
    from headrace.runtime.process import ExitCode
    from headrace_cli.local import LocalBackends, LocalServices, LocalSettings

DATA_DIRECTORY = Path(".headrace")
SHOWN_SECONDS = 15.0
SAMPLE_TRIGGERS = 2
LEADER_SECONDS = 20.0
TAKING_SECONDS = 10.0


class KafkaChoice(StrEnum):
    """The Kafka that `up` starts."""

    EMBEDDED = "embedded"
    APACHE = "apache"


Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--filename",
        "-f",
        help="Manifests to apply instead of the quickstart: files or directories.",
    ),
]
BootstrapServers = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Use an existing Kafka.")
]
Kafka = Annotated[
    KafkaChoice | None,
    typer.Option(
        "--kafka", help="embedded: in memory. apache: real, kept in .headrace/ (Java, Maven)."
    ),
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65_535, help="Port of the ingress.  [default: 8080]"),
]
ControllerPort = Annotated[
    int | None,
    typer.Option("--controller-port", min=0, max=65_535, help="Port of the API.  [default: 8001]"),
]
ManagementPort = Annotated[
    int | None,
    typer.Option(
        "--management-port",
        min=0,
        max=65_535,
        help="Port for health and metrics.  [default: 9464]",
    ),
]
ViewerPort = Annotated[
    int, typer.Option("--viewer-port", min=0, max=65_535, help="Port of the event viewer.")
]
SourcesPort = Annotated[
    int | None,
    typer.Option(
        "--sources-port",
        min=0,
        max=65_535,
        help="Port that receives webhooks for sources.  [default: 8084]",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=64, help="Ingress processes (not with the embedded Kafka)."
    ),
]
NatsServers = Annotated[
    str | None,
    typer.Option(
        "--nats-servers",
        help="NATS servers (nats://host:port) with JetStream, for NatsJetStreamChannels.",
    ),
]
KubeconfigOut = Annotated[
    Path,
    typer.Option(
        "--kubeconfig-out",
        envvar="HEADRACE_CONTROLLER_KUBECONFIG_OUT",
        help="Path of the kubeconfig to write for kubectl and kn; - for none.",
    ),
]


def up(
    *,
    filename: Files = None,
    bootstrap_servers: BootstrapServers = None,
    kafka: Kafka = None,
    port: Port = None,
    controller_port: ControllerPort = None,
    management_port: ManagementPort = None,
    sources_port: SourcesPort = None,
    viewer_port: ViewerPort = VIEWER_PORT,
    workers: Workers = None,
    nats_servers: NatsServers = None,
    kubeconfig_out: KubeconfigOut = DATA_DIRECTORY / "kubeconfig",
) -> None:
    """Run everything on this machine: Kafka, ingress, dispatcher, controller, sources, an event
    viewer, and sample resources.
    """
    from headrace.runtime.process import ExitCode, exit_process
    from headrace_cli.console import EscapingConsole

    try:
        _check_kafka_options(kafka, bootstrap_servers, workers or 1)
        settings = _settings(
            port,
            controller_port,
            management_port,
            sources_port,
            viewer_port,
            workers,
            kubeconfig_out,
            nats_servers,
        )
        settings = _with_rights_of_the_owner(settings, bootstrap_servers)
        code = _run(
            settings,
            EscapingConsole(soft_wrap=True),
            filename or [],
            bootstrap_servers,
            kafka or KafkaChoice.EMBEDDED,
        )
    except (HeadraceError, ValueError, OSError) as error:
        echo(f"headrace up: {error}", err=True)
        raise typer.Exit(ExitCode.NOT_STARTED) from None
    if code is ExitCode.OK:
        echo("Stopped.")
    elif code is not ExitCode.NOT_STARTED:
        # Otherwise the reason was printed and nothing had to be stopped.
        echo(
            "Stopped, but not cleanly: the reason stands above; HEADRACE_LOG_LEVEL=info says more."
        )
    # Everything has stopped. A request to the Kafka that has stopped too would delay the end.
    exit_process(code)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("up")(up)


def _check_kafka_options(
    kafka: KafkaChoice | None, bootstrap_servers: str | None, workers: int
) -> None:
    """Raise BadSettings if the options exclude each other."""
    from headrace.runtime.settings import BadSettings

    if bootstrap_servers is not None and kafka is not None:
        raise BadSettings(
            "--kafka brings a Kafka along, --bootstrap-servers uses another: give one of them"
        )
    if workers > 1 and bootstrap_servers is None and kafka is not KafkaChoice.APACHE:
        raise BadSettings(
            "--workers needs a Kafka that several processes can share: --kafka apache or"
            " --bootstrap-servers"
        )


def _settings(
    port: int | None,
    controller_port: int | None,
    management_port: int | None,
    sources_port: int | None,
    viewer_port: int,
    workers: int | None,
    kubeconfig_out: Path,
    nats_servers: str | None,
) -> "LocalSettings":
    import os

    from headrace.runtime.loading import load
    from headrace.runtime.logging import configure
    from headrace.runtime.settings import (
        LogFormat,
        LogLevel,
        LogSettings,
        ManagementSettings,
        NatsSettings,
    )
    from headrace_cli.environment import reject_misspelt_variables
    from headrace_cli.local import LocalSettings
    from headrace_controller.settings import ControllerSettings
    from headrace_dispatcher.settings import DispatcherSettings
    from headrace_ingress.settings import IngressSettings
    from headrace_sources.settings import SourcesSettings

    reject_misspelt_variables(
        [ControllerSettings, DispatcherSettings, IngressSettings, SourcesSettings]
    )
    # The terminal shows events and, by default, only warnings, in one readable line each.
    logs = load(
        LogSettings,
        level=None if os.environ.get("HEADRACE_LOG_LEVEL") else LogLevel.WARNING,
        format=None if os.environ.get("HEADRACE_LOG_FORMAT") else LogFormat.PRETTY,
    )
    configure(logs)
    sources = load(SourcesSettings, port=sources_port)
    return LocalSettings(
        ingress=load(IngressSettings, port=port, workers=workers),
        dispatcher=load(DispatcherSettings),
        # Who may create resources here owns this machine.
        sources=replace(sources, camel=sources.camel is not False),
        controller=load(
            ControllerSettings,
            port=controller_port,
            kubeconfig_out=None if str(kubeconfig_out) == "-" else kubeconfig_out,
        ),
        management=load(ManagementSettings, port=management_port),
        logs=logs,
        nats=load(NatsSettings, servers=nats_servers),
        viewer_port=viewer_port,
        ingress_url_given=bool(os.environ.get("HEADRACE_CONTROLLER_INGRESS_URL")),
    )


def _with_rights_of_the_owner(settings: "LocalSettings", servers: str | None) -> "LocalSettings":
    """Let ContainerSources run, and Secrets name any directory, unless something else is set: who
    may create resources here owns this machine. That is not so where others reach the API, or the
    Kafka that has the resources.
    """
    from dataclasses import replace

    from headrace.adapters.http.server_local_guard import is_local_bind
    from headrace_sources.settings import ContainersMode

    if servers or not is_local_bind(settings.controller.host):
        return settings
    sources = settings.sources
    if sources.containers is None:
        sources = replace(sources, containers=ContainersMode.PROCESS_AND_DOCKER)
    if not sources.data_directories:
        sources = replace(sources, data_directories="/")
    return replace(settings, sources=sources)


def _run(
    settings: "LocalSettings",
    console: "Console",
    files: list[Path],
    servers: str | None,
    choice: KafkaChoice,
) -> "ExitCode":
    """Start Kafka unless an existing one is used, run the services, and stop Kafka last."""
    from headrace.adapters.kafka.local.mock_cluster import MockCluster
    from headrace.runtime.loading import load
    from headrace.runtime.service import run_service
    from headrace.runtime.settings import KafkaSettings
    from headrace_cli.kafka_monitor import exit_report
    from headrace_cli.local import embedded_backends, kafka_backends
    from headrace_cli.quickstart import manifests
    from headrace_ingress.worker_supervisor import shared_metrics

    # Unreadable files and ports in use are reported before anything starts.
    manifests(files, viewer_port=settings.viewer_port)
    settings.check_ports()
    screen = UpConsole(console, files)
    with contextlib.ExitStack() as stack:
        if settings.ingress.workers > 1:
            stack.enter_context(shared_metrics())
        if servers is None and choice is KafkaChoice.EMBEDDED:
            cluster = MockCluster()
            cluster.start()
            stack.callback(cluster.stop)
            where = (
                f"{cluster.bootstrap_servers}, embedded, in memory: events and resources are GONE"
                " when this ends (keep them with --kafka apache)"
            )
            return run_service(
                lambda: _run_services(settings, embedded_backends(cluster, settings), screen, where)
            )
        apache, where = None, f"{servers}, as given"
        if servers is None:
            apache = _apache(console, stack)
            servers = apache.bootstrap_servers
            where = f"{servers}, Apache Kafka, kept in {DATA_DIRECTORY}/"
        kafka = load(KafkaSettings, bootstrap_servers=servers)
        code = run_service(
            lambda: _run_services(settings, kafka_backends(kafka, settings), screen, where, apache)
        )
        if apache is not None:
            screen.show_failure(exit_report(apache))
        return code


def _apache(console: "Console", stack: contextlib.ExitStack) -> "ApacheKafka":
    from headrace.adapters.kafka.local.kafka_server import ApacheKafka

    apache = ApacheKafka(
        DATA_DIRECTORY / "kafka", progress=lambda line: console.print(f"  {line}", style="dim")
    )
    stack.callback(apache.stop)
    apache.start()
    return apache


async def _run_services(
    settings: "LocalSettings",
    backends: "LocalBackends",
    screen: "UpConsole",
    where: str,
    apache: "ApacheKafka | None" = None,
) -> "ExitCode":
    from headrace_cli.kafka_monitor import KafkaMonitor
    from headrace_cli.local import LocalServices

    local = LocalServices(settings, backends, console=screen.console, shown=screen.shown)
    if apache is not None:
        local.service.add("Kafka", KafkaMonitor(apache, local.service, say=screen.show_failure))

    async def started() -> None:
        screen.introduce(local, where)
        await screen.quickstart(local)

    def ended() -> None:
        echo("Stopping: requests in flight end first. Ctrl-C stops at once.")

    return await local.service.run(started, ended=ended)


class UpConsole:
    """Prints what users see, from startup to the first event."""

    def __init__(self, console: "Console", files: list[Path]) -> None:
        """`files` are applied. If there are none and no resources exist, the quickstart is applied
        and a sample event is sent.
        """
        self.console = console
        self._files = files
        self._awaited = ""
        self._paths: set[str] = set()
        self._event_shown = asyncio.Event()

    def shown(self, path: str, event_id: str) -> None:
        """Record that the event viewer has shown an event."""
        if event_id == self._awaited:
            self._paths.add(path)
            self._event_shown.set()

    def show_failure(self, lines: Sequence[str]) -> None:
        """Print that a required dependency is lost."""
        for line in lines:
            self.console.print(line, style="red", markup=False, highlight=False)

    def introduce(self, local: "LocalServices", where: str) -> None:
        """Print the addresses of all components."""
        from headrace import __version__
        from headrace_apiserver.kubeconfig import export_line

        viewer = f"http://127.0.0.1:{local.viewer.port}"
        rows = (
            ("Kafka", where),
            ("ingress", local.ingress_url),
            ("controller API", local.controller.url),
            ("health, metrics", f"{local.management.url}/readyz  {local.management.url}/metrics"),
            ("sources", f"{local.sources_url}  (receives webhooks for sources)"),
            ("event viewer", f"{viewer}  (prints the events it receives)"),
        )
        self.console.print(f"Headrace {__version__} runs:", style="bold")
        for name, text in rows:
            self.console.print(f"  {name:<16} {text}", highlight=False, markup=False)
        kubeconfig = local.controller.kubeconfig
        if kubeconfig is not None:
            self.console.print("Point kubectl and kn at it:", style="bold")
            self.console.print(f"  {export_line(kubeconfig)}", highlight=False, markup=False)

    async def quickstart(self, local: "LocalServices") -> None:
        """Apply the manifests, wait until they are Ready, send the sample event and wait until it
        arrives; or change nothing if resources exist.
        """
        try:
            await self._wait_for_leader(local)
            if not await self._keep_existing(local):
                broker = await self._apply(local)
                if broker is not None:
                    await self._first_event(broker)
        except HeadraceError as error:
            self.console.print(str(error), style="yellow", markup=False)
            self.console.print("Everything keeps running; fix this and apply again.")
        self.console.print("Ctrl-C ends.")

    async def _keep_existing(self, local: "LocalServices") -> bool:
        """Return whether Brokers and Triggers of earlier runs exist and are kept: applying the
        quickstart would undo changes to them.
        """
        from headrace_cli.quickstart import existing_resources, find_ready_broker

        found = None if self._files else await asyncio.to_thread(existing_resources, local.client())
        if found is None:
            return False
        self.console.print(
            f"{found} are as they were: no quickstart is applied, no event sent.", highlight=False
        )
        broker = await asyncio.to_thread(find_ready_broker, local.client(), TAKING_SECONDS)
        if broker is not None:
            # Not the address in its status, which may be that of an earlier run on another port.
            self._show_next_step(f"{local.ingress_url}/{broker}")
        return True

    async def _apply(self, local: "LocalServices") -> str | None:
        """Apply the manifests and return the address of the first Broker."""
        from headrace_cli.quickstart import address, apply, manifests

        wanted = manifests(self._files, viewer_port=local.viewer.port)
        ready = await asyncio.to_thread(apply, local.client(), wanted, self._show_progress)
        addresses = [address(each) for each in ready]
        for each, url in zip(ready, addresses, strict=True):
            name = f"{each.namespace}/{each.name}" if each.namespace else each.name
            text = f"  {each.kind.kind} {name} is ready  {url or ''}"
            self.console.print(text.rstrip(), highlight=False, markup=False)
        return next((url for url in addresses if url), None)

    def _show_progress(self, what: str) -> None:
        """Print the reason for a delay."""
        self.console.print(f"  {what}", style="yellow", highlight=False, markup=False)

    async def _wait_for_leader(self, local: "LocalServices") -> None:
        """Wait until this controller can write: after a crash, the lease of the previous one has to
        expire first.
        """
        deadline = time.monotonic() + LEADER_SECONDS
        while local.store.epoch is None:
            if time.monotonic() > deadline:
                raise Temporary(
                    f"another controller still writes to this Kafka after {LEADER_SECONDS:g} s;"
                    " this one is a standby"
                )
            await asyncio.sleep(0.05)

    async def _first_event(self, broker: str) -> None:
        from headrace_cli.quickstart import sample_headers, send

        if not self._files:
            headers = sample_headers()
            self._awaited = headers["ce-id"]
            self.console.print("Sending a first event, which both Triggers match:", style="bold")
            await asyncio.to_thread(send, broker, headers)
            await self._arrival()
        self._show_next_step(broker)

    def _show_next_step(self, broker: str) -> None:
        from headrace_cli.quickstart import curl

        self.console.print("Send the next one:", style="bold")
        self.console.print(f"  {curl(broker)}", highlight=False, markup=False)

    async def _arrival(self) -> None:
        try:
            async with asyncio.timeout(SHOWN_SECONDS):
                while len(self._paths) < SAMPLE_TRIGGERS:
                    self._event_shown.clear()
                    await self._event_shown.wait()
        except TimeoutError:
            self.console.print(
                f"It did not arrive within {SHOWN_SECONDS:g} s; HEADRACE_LOG_LEVEL=info says more.",
                style="yellow",
            )
