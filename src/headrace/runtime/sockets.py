"""Opens listening sockets before anything else starts, so that a port in use causes one clear error
and not a partly started service.
"""

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from headrace.domain.egress import ProtectedPort
from headrace.domain.errors import Permanent

BACKLOG = 2048
LOOPBACK = "127.0.0.1"
INGRESS_PORT = 8080
CONTROLLER_PORT = 8001
MANAGEMENT_PORT = 9464
"""Default of `headrace up` and of the ingress."""
DISPATCHER_MANAGEMENT_PORT = 9465
CONTROLLER_MANAGEMENT_PORT = 9466
IN_MEMORY_PORT = 8082
IN_MEMORY_MANAGEMENT_PORT = 9467
SOURCES_PORT = 8084
SOURCES_MANAGEMENT_PORT = 9468
VIEWER_PORT = 8090
"""Of `headrace viewer`, used in examples/quickstart/quickstart.yaml."""
_SERVICE_PORTS: Mapping[int, str] = {
    CONTROLLER_PORT: "the controller's API",
    MANAGEMENT_PORT: "the management port of the ingress",
    DISPATCHER_MANAGEMENT_PORT: "the management port of the dispatcher",
    CONTROLLER_MANAGEMENT_PORT: "the management port of the controller",
    IN_MEMORY_MANAGEMENT_PORT: "the management port of in-memory channels",
    SOURCES_MANAGEMENT_PORT: "the management port of the sources",
}
"""Default ports that no event may be posted to."""


def other_services_ports(*own: int) -> tuple[ProtectedPort, ...]:
    """Return the ports of the other services where they run on this machine under their default
    ports: a process is not configured with others. `own` are the default ports of this process,
    which knows where it listens.
    """
    return tuple(
        ProtectedPort("::", port, purpose)
        for port, purpose in _SERVICE_PORTS.items()
        if port not in own
    )


class PortInUse(Permanent):
    """Another process already listens on the port."""


class PortUnavailable(Permanent):
    """The address does not belong to this machine, or the port needs more privileges."""


def listen(
    host: str, port: int, *, purpose: str, option: str, shared: bool = False
) -> socket.socket:
    """Open a listening TCP socket (`port` 0: any free port).

    `purpose` and `option` are for the error message: what needs the port, and how to choose
    another. `shared` (SO_REUSEPORT) lets several processes of one service accept connections on it.
    Raises `PortInUse` and `PortUnavailable`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(_in_use(host, port, purpose, option)) from error
        raise PortUnavailable(
            f"{purpose} cannot listen on {host}:{port}: {error.strerror}; choose another address"
            f" with {option}"
        ) from error
    return listener


@dataclass(frozen=True, slots=True)
class RequiredPort:
    """A port on which a component will listen; `purpose` and `option` as for `listen`."""

    host: str
    port: int
    purpose: str
    option: str


def check_free(wanted: Sequence[RequiredPort]) -> None:
    """Open all of these ports and close them again. Raises `PortInUse` or `PortUnavailable` that
    names every unavailable port.

    If only the first port were reported, users would need one start attempt per port in use.
    """
    errors: list[PortInUse | PortUnavailable] = []
    with ExitStack() as opened:
        for each in wanted:
            try:
                opened.enter_context(
                    listen(each.host, each.port, purpose=each.purpose, option=each.option)
                )
            except (PortInUse, PortUnavailable) as error:
                errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise PortInUse("\n  ".join([f"{len(errors)} ports are unavailable:", *map(str, errors)]))


def http_url(host: str, port: int, *, tls: bool = False) -> str:
    """Return the URL of an HTTP server at this address."""
    named = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{named}:{port}"


def port_of(listener: socket.socket) -> int:
    """Return the port number to which the socket is bound."""
    port: int = listener.getsockname()[1]
    return port


def _in_use(host: str, port: int, purpose: str, option: str) -> str:
    who = port_owner(port)
    held = (
        f"by {who}"
        if who
        else "by a process of another user or container (`ss -ltnp` as root shows it)"
    )
    return (
        f"{purpose} cannot listen on {host}:{port}: the port is in use {held}; stop that, or choose"
        f" another port with {option}"
    )


def port_owner(port: int) -> str | None:
    """Return which process listens on this TCP port, as `name (process 123)`. Returns None if it
    cannot be determined (processes of other users, not Linux).
    """
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if _target(descriptor) in inodes:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    own = ", this very process" if process.name == str(os.getpid()) else ""
                    return f"{name} (process {process.name}{own})"
        except OSError:
            continue
    return None


def _target(descriptor: Path) -> str:
    """What a file descriptor in /proc is; empty if it was closed meanwhile."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
