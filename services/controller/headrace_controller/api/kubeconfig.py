"""The kubeconfig that lets kubectl, kn and client libraries find this API: written where people look for it, for nobody else to read."""

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from headrace.domain.errors import Permanent

NAME = "headrace"
"""Of cluster, user and context."""


def kubeconfig(server: str, *, token: str = "", certificate_authority: Path | None = None) -> dict[str, Any]:
    """A kubeconfig for the API at `server`. Raises Permanent when the authority's file cannot be read."""
    cluster: dict[str, Any] = {"server": server}
    if certificate_authority is not None:
        try:
            cluster["certificate-authority-data"] = base64.b64encode(certificate_authority.read_bytes()).decode()
        except OSError as error:
            raise Permanent(f"{certificate_authority}: {error.strerror}") from error
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"token": token} if token else {}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
    }


def write_kubeconfig(path: Path, document: dict[str, Any]) -> None:
    """Write it whole or not at all, readable by its owner only. Raises Permanent when that cannot be done."""
    text = yaml.safe_dump(document, sort_keys=False).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        raise Permanent(f"--kubeconfig-out {path}: {error.strerror}; choose another file") from error


def export_line(path: Path) -> str:
    """The command by which a shell takes it."""
    return f"export KUBECONFIG={path.resolve()}"
