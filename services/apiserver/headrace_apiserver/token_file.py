"""The file of bearer tokens: its creation at the first start, and a check of its permissions."""

import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from headrace.adapters.private_directory import make_private
from headrace.domain.errors import Permanent

_TOKEN_BYTES = 32


def create_token_file(path: Path) -> bool:
    """Create a file with one random token, readable by its owner only. Returns False if the file
    exists already. Raises Permanent.

    The file appears complete and never replaces another one: two controllers that start at the same
    time use the same token.
    """
    if path.exists():
        return False
    try:
        make_private(path.parent)
        # mkstemp creates the file with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            return _link(Path(name), path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise Permanent(
            f"--create-token-file: {path} cannot be created: {error.strerror}"
        ) from error


def _link(new: Path, path: Path) -> bool:
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    return True


def world_readable(files: Mapping[str, Path | None]) -> dict[str, Path]:
    """Those of the files, by option, that every user of this machine can read."""
    found: dict[str, Path] = {}
    for option, path in files.items():
        try:
            if path is not None and path.stat().st_mode & stat.S_IROTH:
                found[option] = path
        except OSError:
            # The code that reads the file reports what is wrong with it.
            continue
    return found
