"""`headrace ingress`, `headrace dispatcher`, `headrace controller`: each service alone, as in
production.

Options beat the environment, the environment beats the defaults; what has no option here has a
variable (`HEADRACE_<SERVICE>_*`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from headrace.runtime.exec_settings import exec_module
from headrace.runtime.exit_code import ExitCode
from headrace.runtime.loading import load, reject_unknown_variables
from headrace.runtime.settings import (
    BadSettings,
    KafkaSettings,
    LogSettings,
    ManagementSettings,
    Settings,
)
from headrace_cli.terminal import echo

KUBECONFIG, KUBECONFIG_VARIABLE = Path(".headrace/kubeconfig"), "HEADRACE_CONTROLLER_KUBECONFIG_OUT"
SHARED = (KafkaSettings, LogSettings, ManagementSettings)

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
        help="The management port; default: 9464 ingress, 9465 dispatcher, 9466 controller.",
    ),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; default: 127.0.0.1.")
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        help="Port to listen on, 0 for any free one; default: 8080 ingress, 8001 controller.",
    ),
]


def serve(
    service: str,
    own: Callable[[], Settings],
    *,
    kafka: dict[str, Any],
    management: dict[str, Any],
    more: Callable[[], dict[str, Settings]] = dict,
) -> NoReturn:
    """Read the settings and become the service that lives by them; bad settings are one line and
    exit code 2.
    """
    try:
        settings = own()
        reject_unknown_variables((type(settings), *SHARED))
        read = {
            "logs": load(LogSettings),
            "kafka": load(KafkaSettings, **kafka),
            "management": load(ManagementSettings, **management),
        }
        read |= more()
    except BadSettings as error:
        echo(f"headrace {service}: {error}", err=True)
        raise typer.Exit(ExitCode.NOT_STARTED) from None
    exec_module(f"headrace_{service}", own=settings, **read)


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
    """Take events over HTTP and store them in Kafka. Further settings: variables HEADRACE_INGRESS_*
    and HEADRACE_KAFKA_*.
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
            help="Lasting name of this process: after a crash it has its partitions back at once.",
        ),
    ] = None,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Deliver stored events to their subscribers. Further settings: variables HEADRACE_DISPATCHER_*
    and HEADRACE_KAFKA_*.
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
    ingress_url: Annotated[
        str | None,
        typer.Option(
            "--ingress-url",
            help="What the addresses of Brokers begin with; default: http://127.0.0.1:8080.",
        ),
    ] = None,
    kubernetes: Annotated[
        bool,
        typer.Option(
            "--kubernetes",
            envvar="HEADRACE_KUBERNETES",
            help="Take resources from a Kubernetes cluster instead of serving their API.",
        ),
    ] = False,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            "--kubeconfig",
            help=(
                "With --kubernetes: which cluster; default: the pod's service account, else"
                " KUBECONFIG."
            ),
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help=(
                "Bearer tokens, one a line, that the API takes; default: HEADRACE_API_TOKEN_FILE,"
                " else none."
            ),
        ),
    ] = None,
    create_token_file: Annotated[
        bool | None,
        typer.Option(
            "--create-token-file",
            help="Make the token file with a random token, mode 0600, when it is not there.",
        ),
    ] = None,
    client_ca_file: Annotated[
        Path | None,
        typer.Option(
            "--client-ca-file", help="CA (PEM) of clients' certificates, which the API then takes."
        ),
    ] = None,
    tls_cert_file: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert-file", help="Certificate (PEM) of the API, which then speaks HTTPS."
        ),
    ] = None,
    tls_key_file: Annotated[
        Path | None, typer.Option("--tls-key-file", help="Its private key (PEM).")
    ] = None,
    kubeconfig_out: Annotated[
        Path,
        typer.Option(
            "--kubeconfig-out",
            envvar=KUBECONFIG_VARIABLE,
            help="Where to write a kubeconfig for the API; - writes none.",
        ),
    ] = KUBECONFIG,
    management_host: ManagementHost = None,
    management_port: ManagementPort = None,
) -> None:
    """Turn resources into topics, statuses and routing records; serve their API, or with
    --kubernetes take them from a cluster.

    Further settings: variables HEADRACE_CONTROLLER_*, HEADRACE_KAFKA_* and HEADRACE_KUBERNETES_*.
    """
    from headrace_controller.settings import ControllerSettings, KubernetesSettings

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
            kubeconfig_out=(
                None if kubernetes or kubeconfig or str(kubeconfig_out) == "-" else kubeconfig_out
            ),
        )

    def cluster() -> dict[str, Settings]:
        reject_unknown_variables((KubernetesSettings,))
        return (
            {"cluster": load(KubernetesSettings, kubeconfig=kubeconfig)}
            if kubernetes or kubeconfig
            else {}
        )

    serve(
        "controller",
        own,
        kafka={"bootstrap_servers": bootstrap_servers},
        management={"host": management_host, "port": management_port},
        more=cluster,
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (ingress, dispatcher, controller):
        app.command(rich_help_panel="Services")(command)
