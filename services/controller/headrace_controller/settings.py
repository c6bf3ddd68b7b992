"""The settings of the controller: `HEADRACE_CONTROLLER_*`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.runtime.ports import CONTROLLER_PORT, LOOPBACK
from headrace_controller.reconcile.world import Installation


class ControllerSettings(BaseSettings):
    """What an operator may set for one controller process."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_CONTROLLER_", frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field(default=LOOPBACK, description="address of the API; it has no authentication, so keep it where only you reach it")
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

    def installation(self) -> Installation:
        """As the reconcile takes them."""
        return Installation(
            ingress_url=self.ingress_url, cluster_domain=self.cluster_domain, dead_grace_seconds=self.dead_letter_grace_seconds
        )
