"""The settings of the sources service: `HEADRACE_SOURCES_*`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, ClassVar

from headrace.domain.egress import EgressPolicy, ProtectedPort, parse_networks
from headrace.runtime.settings import WATCHDOG_SECONDS, Ge, Gt, Le, Pattern, Settings
from headrace.runtime.sockets import LOOPBACK, SOURCES_PORT

_ADAPTER = re.compile(r"([a-z0-9][a-z0-9-]*)=([A-Za-z_][\w.]*):([A-Za-z_]\w*)").fullmatch
ADAPTERS_SETTING = "HEADRACE_SOURCES_ADAPTERS"
DENY_SETTING = "HEADRACE_SOURCES_EGRESS_DENY"
ALLOW_SETTING = "HEADRACE_SOURCES_EGRESS_ALLOW"
DATA_DIRECTORIES_SETTING = "HEADRACE_SOURCES_DATA_DIRECTORIES"


class ContainersMode(StrEnum):
    """What runs the containers of ContainerSources."""

    OFF = "off"
    DOCKER = "docker"
    PROCESS = "process"
    """The commands of the containers, as processes of this machine, without their images."""
    PROCESS_AND_DOCKER = "process+docker"
    """Docker if it runs, else processes."""


@dataclass(frozen=True, kw_only=True)
class SourcesSettings(Settings):
    """What an operator may set for one process of the sources service."""

    env_prefix: ClassVar[str] = "HEADRACE_SOURCES_"

    host: str = LOOPBACK
    """Address that the receiver of webhooks listens on."""
    port: Annotated[int, Ge(0), Le(65535)] = SOURCES_PORT
    """Port of the receiver of webhooks; 0: any free one."""
    public_url: str = ""
    """URL under which outside systems reach the receiver; default: its own address."""
    hosts: str = ""
    """Further values of the Host header, separated by commas, on a loopback address."""
    request_bytes_max: Annotated[int, Ge(1024), Le(64 * 1024 * 1024)] = 26 * 1024 * 1024
    """Bytes of one request to the receiver. GitHub sends up to 25 MiB."""
    instance: Annotated[str | None, Pattern(r"^[A-Za-z0-9._-]{1,100}$")] = None
    """Stable name of this process (for example the pod name in a StatefulSet): it keeps its sources
    over a restart.
    """
    kubernetes: bool = False
    """Read Secrets, and what ApiServerSources watch, from the cluster that this process runs in."""
    kubeconfig: Path | None = None
    """Kubeconfig of the API server that has the Secrets and what ApiServerSources watch: that of a
    cluster, or the one that the controller writes. Without it, and outside a cluster, neither is
    read.
    """
    adapters: str = ""
    """Adapters of your own, as `name=module:Class`, separated by commas. The module is found as
    Python finds it, or in the working directory. One that cannot be imported is an error in the log
    at the start; the others run.
    """
    camel: bool | None = None
    """Whether CamelSources run: their routes can do all that this process may do on its machine.
    Default: no; in `headrace up`: yes.
    """
    camel_heap_mb: Annotated[int, Ge(32), Le(65536)] = 128
    """Heap of the Java process of each CamelSource, in MiB; it uses about 100 MiB more."""
    containers: ContainersMode | None = None
    """What runs the containers of ContainerSources: `docker`, `process` (their commands, as
    processes), `process+docker` (Docker if it runs, else processes), or `off`. Containers can do
    what this process may do on its machine. Default: `off`; in `headrace up`, with a Kafka of its
    own and an API on the loopback address: `process+docker`.
    """
    data_directories: str = ""
    """Directories, separated by commas, below which the directory that a Secret names with
    `headrace.dev/data-from` must be. Who may write Secrets can read what is there. Default: none;
    in `headrace up`, with a Kafka of its own and an API on the loopback address: `/`.
    """
    egress_deny: str = ""
    """Networks (CIDR, separated by commas) that nothing is posted to, beside those denied by
    default.
    """
    egress_allow: str = ""
    """Networks that events may be posted to though a wider one, or the default, denies them."""
    append_bytes_max: Annotated[int, Ge(2 * 1024 * 1024)] = 16 * 1024 * 1024
    """Bytes being appended to one topic."""
    bytes_max: Annotated[int, Ge(8 * 1024 * 1024)] = 64 * 1024 * 1024
    """Bytes of records held and prefetched by the sources that read from Kafka, all together."""
    drain_seconds: Annotated[float, Gt(0), Le(60)] = 5.0
    """Time to finish what is in flight when the process stops."""
    shutdown_delay_seconds: Annotated[float, Ge(0), Le(300)] = 0.0
    """How long to keep serving after readiness fails, at shutdown."""
    watchdog_seconds: Annotated[float, Ge(0), Le(3600)] = WATCHDOG_SECONDS
    """How long the event loop may stall before the process is ended (exit code 27); 0: no limit."""

    def __post_init__(self) -> None:
        self.egress()
        self.data_roots()
        self.own_adapters()

    def data_roots(self) -> tuple[Path, ...]:
        """`data_directories`, resolved. Raises ValueError."""
        given = filter(None, (each.strip() for each in self.data_directories.split(",")))
        found = [Path(each) for each in given]
        for each in found:
            if not each.is_absolute():
                raise ValueError(f"{DATA_DIRECTORIES_SETTING}: {each} is not an absolute path")
        return tuple(each.resolve() for each in found)

    def own_adapters(self) -> Mapping[str, tuple[str, str]]:
        """Module and class by adapter name, from `adapters`. Raises ValueError."""
        found = {}
        for entry in filter(None, (each.strip() for each in self.adapters.split(","))):
            match = _ADAPTER(entry)
            if match is None:
                raise ValueError(
                    f"{ADAPTERS_SETTING}: {entry[:100]} is not name=module:Class with a name"
                    " of lower-case letters, digits and -"
                )
            found[match[1]] = (match[2], match[3])
        return found

    def egress(
        self,
        *,
        loopback: bool = False,
        protected_ports: tuple[ProtectedPort, ...] = (),
        is_local: Callable[[IPv4Address | IPv6Address], bool] = lambda address: address.is_loopback,
    ) -> EgressPolicy:
        """Which addresses events may be posted to; see `EgressPolicy`. Raises ValueError."""
        return EgressPolicy(
            deny=parse_networks(self.egress_deny, DENY_SETTING),
            allow=parse_networks(self.egress_allow, ALLOW_SETTING),
            loopback=loopback,
            protected_ports=protected_ports,
            is_local=is_local,
        )
