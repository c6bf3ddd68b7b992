"""The settings of the controller: `HEADRACE_CONTROLLER_*`, and in a cluster
`HEADRACE_KUBERNETES_*`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from headrace.domain.egress import (
    ALLOW_SETTING,
    DENY_SETTING,
    Address,
    EgressPolicy,
    ProtectedPort,
    parse_networks,
)
from headrace.runtime.settings import WATCHDOG_SECONDS, Ge, Le, Pattern, Settings, Variables
from headrace.runtime.sockets import CONTROLLER_PORT, LOOPBACK, other_services_ports
from headrace_apiserver.server_options import ApiServerOptions
from headrace_controller.reconcile.observed_state import Installation

_NOWHERE = Path("-")


@dataclass(frozen=True, kw_only=True)
class ControllerSettings(Settings):
    """The settings of one controller process."""

    env_prefix: ClassVar[str] = "HEADRACE_CONTROLLER_"

    host: str = LOOPBACK
    """Address of the API; beyond loopback it needs a token file or client certificates."""
    port: Annotated[int, Ge(0), Le(65_535)] = CONTROLLER_PORT
    """Port of the API; 0 for any free one."""
    ingress_url: Annotated[str, Pattern(r"^https?://[^/\s]+(/[^\s]*)?$")] = "http://127.0.0.1:8080"
    """The prefix of the addresses of Brokers."""
    in_memory_url: Annotated[str | None, Pattern(r"^https?://[^/\s]+(/[^\s]*)?$")] = None
    """The prefix of the addresses of InMemoryChannels, where `headrace in-memory` serves them;
    default: that of Brokers.
    """
    cluster_domain: Annotated[str, Pattern(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] = "cluster.local"
    """DNS domain of references to v1 Services."""
    source_crds: str = ""
    """CRD files of sources of your own, separated by commas; each has the annotation
    `headrace.dev/source-adapter`.
    """
    dead_letter_grace_seconds: Annotated[int, Ge(0)] = 7 * 24 * 3600
    """How long a dead letter topic is kept after its Trigger was deleted."""
    instance: Annotated[str | None, Pattern(r"^[A-Za-z0-9._:-]{1,100}$")] = None
    """Stable instance name: after a crash it becomes the leader again at once, another name waits
    8 s; default: host and port.
    """

    token_file: Annotated[
        Path | None, Variables("HEADRACE_API_TOKEN_FILE", "HEADRACE_CONTROLLER_TOKEN_FILE")
    ] = None
    """File of bearer tokens, one per line: TOKEN or TOKEN,user,uid,group; each token grants full
    access.
    """
    create_token_file: bool = False
    """Create the token file with a random token, mode 0600, if it does not exist."""
    api_hosts: Annotated[
        str, Pattern(r"^$|^[A-Za-z0-9._:\[\]-]{1,255}(,[A-Za-z0-9._:\[\]-]{1,255}){0,63}$")
    ] = ""
    """Host names, separated by commas, by which clients address the API, beside localhost and
    loopback addresses. If set, or on a loopback address, requests with another Host, and requests
    of web pages of another origin, are rejected.
    """
    client_ca_file: Path | None = None
    """CA certificates (PEM) that sign clients' certificates; needs TLS."""
    tls_cert_file: Path | None = None
    """Certificate chain (PEM) of the API, which then uses HTTPS."""
    tls_key_file: Path | None = None
    """Its private key (PEM)."""
    kubeconfig_out: Path | None = None
    """Where to write a kubeconfig for the API, readable by its owner only; default of the command:
    `.headrace/kubeconfig`; `-`, or in a cluster: it is not written.
    """

    egress_deny: Annotated[str, Variables("HEADRACE_DISPATCHER_EGRESS_DENY")] = ""
    """Networks that schemas of EventTypes are not fetched from: the setting of the dispatcher."""
    egress_allow: Annotated[str, Variables("HEADRACE_DISPATCHER_EGRESS_ALLOW")] = ""
    """Networks that they may be fetched from, likewise."""
    adopt_store: bool = False
    """Take over topics that belong to the resources of another store: after a restore, or a move
    between modes or clusters.
    """
    shutdown_delay_seconds: Annotated[float, Ge(0), Le(300)] = 0.0
    """How long to keep serving after readiness fails, at shutdown."""
    watchdog_seconds: Annotated[float, Ge(0), Le(3600)] = WATCHDOG_SECONDS
    """How long the event loop may be blocked before the process exits (exit code 27); 0: without
    limit.
    """

    def certificates(self) -> Mapping[str, Path]:
        """See `Settings`."""
        file = self.tls_cert_file
        return {} if file is None else {"server": file}

    def __post_init__(self) -> None:
        self.egress()
        if self.kubeconfig_out == _NOWHERE:
            # From the environment or the command line: a file of that name would contain the token.
            object.__setattr__(self, "kubeconfig_out", None)

    def host_names(self) -> frozenset[str]:
        """`api_hosts` in the form that is compared: lower case, without brackets and final dot."""
        return frozenset(
            name.lower().strip("[]").removesuffix(".") for name in self.api_hosts.split(",") if name
        )

    def api_options(self) -> ApiServerOptions:
        """The settings that concern the API server."""
        return ApiServerOptions(
            host=self.host,
            port=self.port,
            host_names=self.host_names(),
            token_file=self.token_file,
            create_token_file=self.create_token_file,
            client_ca_file=self.client_ca_file,
            tls_cert_file=self.tls_cert_file,
            tls_key_file=self.tls_key_file,
            kubeconfig_out=self.kubeconfig_out,
        )

    def egress(
        self, *, is_local: Callable[[Address], bool] = lambda address: address.is_loopback
    ) -> EgressPolicy:
        """Which addresses schemas may be fetched from. Raises ValueError for networks that cannot
        be.
        """
        return EgressPolicy(
            deny=parse_networks(self.egress_deny, DENY_SETTING),
            allow=parse_networks(self.egress_allow, ALLOW_SETTING),
            protected_ports=(
                ProtectedPort(self.host, self.port, "the controller's API"),
                # Its own management port may be another one, but this is its default.
                *other_services_ports(CONTROLLER_PORT),
            ),
            is_local=is_local,
        )

    def source_crd_files(self) -> tuple[Path, ...]:
        """The paths in `source_crds`."""
        return tuple(Path(each.strip()) for each in self.source_crds.split(",") if each.strip())

    def installation(self) -> Installation:
        """The settings that a reconcile uses."""
        return Installation(
            ingress_url=self.ingress_url,
            in_memory_url=self.in_memory_url,
            cluster_domain=self.cluster_domain,
            dead_grace_seconds=self.dead_letter_grace_seconds,
            adopts_store=self.adopt_store,
        )


@dataclass(frozen=True, kw_only=True)
class KubernetesSettings(Settings):
    """The cluster's API server, and which of its resources this controller serves."""

    env_prefix: ClassVar[str] = "HEADRACE_KUBERNETES_"

    kubeconfig: Path | None = None
    """The kubeconfig of the API server; default: the pod's service account, else KUBECONFIG."""
    context: str | None = None
    """The context of the kubeconfig; default: its current one."""
    namespaces: Annotated[str, Pattern(r"^$|^[a-z0-9-]{1,63}(,[a-z0-9-]{1,63})*$")] = ""
    """Namespaces to serve, separated by commas; default: all of them, which needs a ClusterRole."""
    channels: bool = True
    """Whether Channels, KafkaChannels, Subscriptions, Sequences and Parallels are reconciled;
    `false` where Knative's own controllers of channels run: two controllers would change the same
    objects.
    """
    sources: bool = True
    """Whether the kinds of `sources.knative.dev` are reconciled; `false` where Knative's own
    controllers of sources run.
    """
    legacy: bool = True
    """Whether the kinds of Knative 0.5 are reconciled; with `false` their CRDs need not exist."""
    system_namespace: Annotated[str, Pattern(r"^[a-z0-9-]{1,63}$")] = "knative-eventing"
    """The namespace of the Lease, and of the ConfigMaps that apply to all resources."""
    lease: Annotated[str, Pattern(r"^[a-z0-9.-]{1,253}$")] = "headrace-controller"
    """Name of the Lease of the leader."""

    def served_namespaces(self) -> tuple[str, ...]:
        """Namespaces to watch, empty for all; includes the system namespace for its ConfigMaps."""
        named = tuple(self.namespaces.split(",")) if self.namespaces else ()
        return (
            named
            if not named or self.system_namespace in named
            else (*named, self.system_namespace)
        )
