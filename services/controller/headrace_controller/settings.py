"""The settings of the controller: `HEADRACE_CONTROLLER_*`, and in a cluster `HEADRACE_KUBERNETES_*`."""

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.runtime.ports import CONTROLLER_PORT, LOOPBACK
from headrace_controller.reconcile.world import Installation


class ControllerSettings(BaseSettings):
    """What an operator may set for one controller process."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_CONTROLLER_", frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True
    )

    host: str = Field(default=LOOPBACK, description="address of the API; another than loopback needs a token file or client certificates")
    port: int = Field(default=CONTROLLER_PORT, ge=0, le=65_535, description="port of the API; 0 for any free one")
    ingress_url: str = Field(
        default="http://127.0.0.1:8080", pattern=r"^https?://[^/\s]+(/[^\s]*)?$", description="what the addresses of Brokers begin with"
    )
    cluster_domain: str = Field(
        default="cluster.local",
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        description="DNS domain that references to v1 Services resolve in",
    )
    dead_letter_grace_seconds: int = Field(
        default=7 * 24 * 3600, ge=0, description="how long a dead letter topic outlives its Trigger; after that its events are gone"
    )
    instance: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._:-]{1,100}$",
        description="lasting name: after a crash it writes again at once, another name waits 8 s; default: host and port",
    )

    token_file: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("token_file", "HEADRACE_API_TOKEN_FILE", "HEADRACE_CONTROLLER_TOKEN_FILE"),
        description="file of bearer tokens, one a line: TOKEN or TOKEN,user,uid,group; whoever has one may do everything",
    )
    client_ca_file: Path | None = Field(default=None, description="CA certificates (PEM) that sign clients' certificates; needs TLS")
    tls_cert_file: Path | None = Field(default=None, description="certificate chain (PEM) of the API; speaks HTTPS when set")
    tls_key_file: Path | None = Field(default=None, description="its private key (PEM)")
    kubeconfig_out: Path | None = Field(default=None, description="where to write a kubeconfig for the API; default: nowhere")

    adopt_source: bool = Field(
        default=False,
        description="take over topics that belong to the resources of another place: after a restore, or a move between modes or clusters",
    )

    def installation(self) -> Installation:
        """As the reconcile takes them."""
        return Installation(
            ingress_url=self.ingress_url,
            cluster_domain=self.cluster_domain,
            dead_grace_seconds=self.dead_letter_grace_seconds,
            adopts_source=self.adopt_source,
        )


class KubernetesSettings(BaseSettings):
    """Where the cluster's API server is, and what of it concerns this controller."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_KUBERNETES_", frozen=True, extra="forbid", env_ignore_empty=True)

    kubeconfig: Path | None = Field(
        default=None, description="the file that says where the API server is; default: the pod's service account, else KUBECONFIG"
    )
    context: str | None = Field(default=None, description="the context of the kubeconfig; default: its current one")
    namespaces: str = Field(
        default="",
        pattern=r"^$|^[a-z0-9-]{1,63}(,[a-z0-9-]{1,63})*$",
        description="namespaces to serve, separated by commas; default: all of them, which needs a ClusterRole",
    )
    system_namespace: str = Field(
        default="knative-eventing",
        pattern=r"^[a-z0-9-]{1,63}$",
        description="where the Lease stands, and the ConfigMaps that concern all resources",
    )
    lease: str = Field(default="headrace-controller", pattern=r"^[a-z0-9.-]{1,253}$", description="name of the Lease that says who works")

    def served_namespaces(self) -> tuple[str, ...]:
        """Namespaces to follow, none for all; the system's among them for its ConfigMaps."""
        named = tuple(self.namespaces.split(",")) if self.namespaces else ()
        return named if not named or self.system_namespace in named else (*named, self.system_namespace)
