"""The kubeconfig that lets kubectl, kn and client libraries find this API: written where people
look for it, for nobody else to read.
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
"""Of cluster, user and context."""
_ANSWER_SECONDS = 1.0
_READ_BYTES_MAX = 256 * 1024
_SERVERS_MAX = 16


def kubeconfig(
    server: str, *, token: str = "", certificate_authority: Path | None = None
) -> dict[str, Any]:
    """A kubeconfig for the API at `server`. Raises Permanent when the authority's file cannot be
    read.
    """
    cluster: dict[str, Any] = {"server": server}
    if certificate_authority is not None:
        try:
            cluster["certificate-authority-data"] = base64.b64encode(
                certificate_authority.read_bytes()
            ).decode()
        except OSError as error:
            raise Permanent(f"{certificate_authority}: {error.strerror}") from error
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
    """Where the kubeconfig for `server` goes: to `wanted`, or beside it while the one there leads
    to another server that answers.

    That one belongs to a controller which still runs, and people work with it. The file beside has
    the port in its name.
    """
    others = [each for each in _servers_in(wanted) if not _is_same(each, server)][:_SERVERS_MAX]
    taken = any(await asyncio.gather(*map(_answers, others)))
    return wanted.with_name(f"{wanted.name}-{_port(server)}") if taken else wanted


def _servers_in(path: Path) -> list[str]:
    """The servers that a kubeconfig names; none when it is not there, or is something else."""
    try:
        with path.open("rb") as file:
            text = file.read(_READ_BYTES_MAX).decode("utf-8-sig")
        ((_, document),) = read_yaml(text, depth_max=DEPTH_MAX, nodes_max=VALUES_MAX)
        servers = (str(each["cluster"]["server"]) for each in document["clusters"])
        return [each for each in servers if urlsplit(each).hostname]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _is_same(one: str, other: str) -> bool:
    """Whether two URLs lead to one server: a loopback address may be written in many ways."""
    places = [urlsplit(each) for each in (one, other)]
    local = all(is_loopback_address(each.hostname or "") for each in places)
    return one == other or (local and _port(one) == _port(other))


def _port(server: str) -> int:
    parts = urlsplit(server)
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return 0


async def _answers(server: str) -> bool:
    """Whether anything takes connections there; it is asked nothing."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(
                urlsplit(server).hostname or "", _port(server)
            )
    except (OSError, ValueError):
        return False
    writer.close()
    return True


def write_kubeconfig(path: Path, document: dict[str, Any]) -> None:
    """Write it whole or not at all, readable by its owner only. Raises Permanent when that cannot
    be done.
    """
    text = yaml.safe_dump(document, sort_keys=False).encode()
    try:
        make_private(path.parent)
        # mkstemp makes it 0600 from the beginning; a rename replaces what is there in one step.
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
    """The command by which a shell takes it."""
    return f"export KUBECONFIG={path.resolve()}"
