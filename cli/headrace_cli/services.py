"""`headrace ingress`, `headrace dispatcher`, `headrace controller`, `headrace sources`: run one
service, as in production.

Options override the environment, and the environment overrides the defaults. Settings without an
option have an environment variable (`HEADRACE_<SERVICE>_*`).
"""

import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from headrace.runtime.exec_settings import exec_module
from headrace.runtime.loading import load, reject_unknown_variables
from headrace.runtime.process import ExitCode
from headrace.runtime.settings import (
    BadSettings,
    KafkaSettings,
    LogSettings,
    ManagementSettings,
    NatsSettings,
    Settings,
)
from headrace_cli.environment import reject_misspelt_variables
from headrace_cli.terminal import echo

KUBECONFIG, KUBECONFIG_VARIABLE = Path(".headrace/kubeconfig"), "HEADRACE_CONTROLLER_KUBECONFIG_OUT"


class ServiceName(StrEnum):
    """A service of the command line; each has a connection to Kafka."""

    INGRESS = "ingress"
    DISPATCHER = "dispatcher"
    CONTROLLER = "controller"
    SOURCES = "sources"
    IN_MEMORY = "in-memory"


BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        help=(
            "Kafka brokers as host:port, separated by commas; default: KAFKA_BOOTSTRAP_SERVERS,"
            " else 127.0.0.1:9092."
        ),
    ),
]
ManagementHost = Annotated[
    str | None,
    typer.Option(
        "--management-host",
        help="Address of the management port (health, metrics); default: 127.0.0.1.",
    ),
]
ManagementPort = Annotated[
    int | None,
    typer.Option(
        "--management-port",
        help="Management port; default: 9464 ingress, 9465 dispatcher, 9466 controller,"
        " 9467 in-memory, 9468 sources.",
    ),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; default: 127.0.0.1.")
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        help="Port to listen on, 0 for any free one; default: 8080 ingress, 8001 controller,"
        " 8082 in-memory, 8084 sources.",
    ),
]
IngressUrl = Annotated[
    str | None,
    typer.Option(
        "--ingress-url", help="URL prefix of Broker addresses; default: http://127.0.0.1:8080."
    ),
]
Kubernetes = Annotated[
    bool,
    typer.Option(
        "--kubernetes",
        envvar="HEADRACE_KUBERNETES",
        help="Read resources from a Kubernetes cluster instead of serving their API.",
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help=(
            "Kubeconfig of the cluster, with --kubernetes; default: the pod's service account,"
            " else KUBECONFIG."
        ),
    ),
]
ApiTokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help=(
            "File with the bearer tokens that the API accepts, one per line; default:"
            " HEADRACE_API_TOKEN_FILE, else none."
        ),
    ),
]
CreateTokenFile = Annotated[
    bool | None,
    typer.Option(
        "--create-token-file",
        help="Create the token file with a random token, mode 0600, if it does not exist.",
    ),
]
ClientCaFile = Annotated[
    Path | None,
    typer.Option(
        "--client-ca-file", help="CA (PEM) of the client certificates that the API accepts."
    ),
]
TlsCertFile = Annotated[
    Path | None,
    typer.Option("--tls-cert-file", help="Certificate (PEM) of the API; enables HTTPS."),
]
TlsKeyFile = Annotated[
    Path | None, typer.Option("--tls-key-file", help="Private key (PEM) of the certificate.")
]
KubeconfigOut = Annotated[
    Path,
    typer.Option(
        "--kubeconfig-out",
        envvar=KUBECONFIG_VARIABLE,
        help="Path of the kubeconfig to write for the API; - for none.",
    ),
]


def serve(
    service: str,
    own: Callable[[], Settings],
    *,
    kafka: dict[str, Any],
    management: dict[str, Any],
    more: Callable[[], Mapping[str, Settings]] = dict,
    module: str = "",
) -> NoReturn:
    """Read the settings and replace this process by the service; invalid settings are reported in
    one line of the log, with exit code 2. `module` is that of the service if it is not named after
    it.
    """
    try:
        settings = own()
        reject_misspelt_variables((type(settings),))
        read = {
            "logs": load(LogSettings),
            "kafka": load(KafkaSettings, **kafka),
            "management": load(ManagementSettings, **management),
            "nats": load(NatsSettings),
        }
        read |= dict(more())
    except BadSettings as error:
        _report(service, error)
        raise typer.Exit(ExitCode.NOT_STARTED) from None
    exec_module(module or f"headrace_{service}", own=settings, **read)


def _report(service: str, error: BadSettings) -> None:
    """Report invalid settings: a sentence for a person, a line of the log where logs are JSON."""
    # Only here: a service that starts has no use for what this imports.
    from headrace.runtime.logging import configure, is_pretty
    from headrace.runtime.service import log_start_failure

    try:
        logs = load(LogSettings)
    except BadSettings:
        logs = LogSettings()
    if is_pretty(logs, sys.stderr):
        echo(f"headrace {service}: {error}", err=True)
    else:
        configure(logs, service=service)
        log_start_failure(error)


def ingress(
    bootstrap_servers: BootstrapServers = None,
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=64, help="Processes that share the port; default: 1."),
    ] = None,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Receive events over HTTP and store them in Kafka. More settings: environment variables
    HEADRACE_INGRESS_* and HEADRACE_KAFKA_*.
    """
    from headrace_ingress.settings import IngressSettings

    serve(
        "ingress",
        lambda: load(IngressSettings, host=host, port=port, workers=workers),
        kafka={"bootstrap_servers": bootstrap_servers},
        management={"host": management_host, "port": management_port},
    )


def dispatcher(
    bootstrap_servers: BootstrapServers = None,
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance",
            help="Stable name of this process, to keep its partitions after a crash.",
        ),
    ] = None,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Deliver stored events to their subscribers. More settings: environment variables
    HEADRACE_DISPATCHER_* and HEADRACE_KAFKA_*.
    """
    from headrace_dispatcher.settings import DispatcherSettings

    serve(
        "dispatcher",
        lambda: load(DispatcherSettings, instance=instance),
        kafka={"bootstrap_servers": bootstrap_servers},
        management={"host": management_host, "port": management_port},
    )


def controller(
    bootstrap_servers: BootstrapServers = None,
    host: Host = None,
    port: Port = None,
    ingress_url: IngressUrl = None,
    kubernetes: Kubernetes = False,
    kubeconfig: Kubeconfig = None,
    token_file: ApiTokenFile = None,
    create_token_file: CreateTokenFile = None,
    client_ca_file: ClientCaFile = None,
    tls_cert_file: TlsCertFile = None,
    tls_key_file: TlsKeyFile = None,
    kubeconfig_out: KubeconfigOut = KUBECONFIG,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Reconcile resources into topics, statuses and routing records. Serves the API of the
    resources, or with --kubernetes reads them from a cluster.

    More settings: environment variables HEADRACE_CONTROLLER_*, HEADRACE_KAFKA_* and
    HEADRACE_KUBERNETES_*.
    """
    from headrace_controller.settings import ControllerSettings, KubernetesSettings

    from_cluster = kubernetes or kubeconfig is not None

    def own() -> ControllerSettings:
        return load(
            ControllerSettings,
            host=host,
            port=port,
            ingress_url=ingress_url,
            token_file=token_file,
            create_token_file=create_token_file,
            client_ca_file=client_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
            kubeconfig_out=None if from_cluster or str(kubeconfig_out) == "-" else kubeconfig_out,
        )

    def cluster() -> dict[str, Settings]:
        reject_unknown_variables((KubernetesSettings,))
        return {"cluster": load(KubernetesSettings, kubeconfig=kubeconfig)} if from_cluster else {}

    serve(
        "controller",
        own,
        kafka={"bootstrap_servers": bootstrap_servers},
        management={"host": management_host, "port": management_port},
        more=cluster,
    )


def sources(
    bootstrap_servers: BootstrapServers = None,
    host: Host = None,
    port: Port = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            help="URL under which outside systems reach this port; default: its own address.",
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance", help="Stable name of this process, to keep its sources after a crash."
        ),
    ] = None,
    kubernetes: Annotated[
        bool,
        typer.Option("--kubernetes", help="Read Secrets from the cluster that this runs in."),
    ] = False,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            "--kubeconfig",
            help="Kubeconfig of the API server that has the Secrets of sources: a cluster's, or the"
            " one that the controller writes.",
        ),
    ] = None,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Run sources: read events from outside systems and send them to their sinks. The port receives
    webhooks. More settings: environment variables HEADRACE_SOURCES_* and HEADRACE_KAFKA_*.
    """
    from headrace_sources.settings import SourcesSettings

    serve(
        "sources",
        lambda: load(
            SourcesSettings,
            host=host,
            port=port,
            public_url=public_url,
            instance=instance,
            kubernetes=kubernetes or None,
            kubeconfig=kubeconfig,
        ),
        kafka={"bootstrap_servers": bootstrap_servers},
        management={"host": management_host, "port": management_port},
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (ingress, dispatcher, controller, sources):
        app.command(rich_help_panel="Services")(command)
