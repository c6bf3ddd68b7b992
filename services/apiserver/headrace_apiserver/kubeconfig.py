"""The kubeconfig with which kubectl, kn and client libraries find this API; readable by its owner
only.
"""

import asyncio
import base64
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from headrace.adapters.private_directory import make_private
from headrace.adapters.yaml_text import read_yaml
from headrace.codec.objects import DEPTH_MAX, VALUES_MAX
from headrace.domain.errors import Permanent
from headrace_apiserver.authentication import is_loopback_address

NAME = "headrace"
"""Name of the cluster, the user and the context."""
_CONNECT_SECONDS = 1.0
_READ_BYTES_MAX = 256 * 1024
_SERVERS_MAX = 16


def kubeconfig(
    server: str, *, token: str = "", certificate_authority: bytes | None = None
) -> dict[str, Any]:
    """A kubeconfig for the API at `server`. `certificate_authority` is PEM."""
    cluster: dict[str, Any] = {"server": server}
    if certificate_authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(certificate_authority).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"token": token} if token else {}}],
        "contexts": [
            {"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}
        ],
        "current-context": NAME,
    }


async def choose_kubeconfig_path(wanted: Path, server: str) -> Path:
    """Where to write the kubeconfig for `server`: to `wanted`, or if that is in use, to a file next
    to it with the port in its name.

    It is in use if it names another server that accepts connections: a controller that still runs.
    """
    others = [each for each in _servers_in(wanted) if not _is_same(each, server)][:_SERVERS_MAX]
    in_use = any(await asyncio.gather(*map(_accepts_connections, others)))
    return wanted.with_name(f"{wanted.name}-{_port(server)}") if in_use else wanted


def _servers_in(path: Path) -> list[str]:
    """The servers in a kubeconfig; none if the file does not exist or is not a kubeconfig."""
    try:
        with path.open("rb") as file:
            text = file.read(_READ_BYTES_MAX).decode("utf-8-sig")
        ((_, document),) = read_yaml(text, depth_max=DEPTH_MAX, nodes_max=VALUES_MAX)
        servers = (str(each["cluster"]["server"]) for each in document["clusters"])
        return [each for each in servers if urlsplit(each).hostname]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _is_same(one: str, other: str) -> bool:
    """Whether two URLs name the same server: a loopback address has many spellings."""
    urls = [urlsplit(each) for each in (one, other)]
    local = all(is_loopback_address(each.hostname or "") for each in urls)
    return one == other or (local and _port(one) == _port(other))


def _port(server: str) -> int:
    parts = urlsplit(server)
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return 0


async def _accepts_connections(server: str) -> bool:
    """Whether a connection can be opened; no request is sent."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(
                urlsplit(server).hostname or "", _port(server)
            )
    except (OSError, ValueError):
        return False
    writer.close()
    return True


def write_kubeconfig(path: Path, document: dict[str, Any]) -> None:
    """Write the file atomically, readable by its owner only. Raises Permanent if that fails."""
    text = yaml.safe_dump(document, sort_keys=False).encode()
    try:
        make_private(path.parent)
        # mkstemp creates the file with mode 0600; the rename replaces an existing file atomically.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Permanent(
            f"--kubeconfig-out {path}: {error.strerror}; choose another file"
        ) from error


def export_line(path: Path) -> str:
    """The shell command that makes clients use the kubeconfig."""
    return f"export KUBECONFIG={path.resolve()}"
