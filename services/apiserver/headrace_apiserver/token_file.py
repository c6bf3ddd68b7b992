"""The file of bearer tokens: made at the first start where that is wanted, and who else can read
it.
"""

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
    """Make a file with one random token, readable by its owner only; whether it was made, False
    when there is one. Raises Permanent.

    Whole or not at all, and never in place of another: two controllers that start at once use the
    token of one of them.
    """
    if path.exists():
        return False
    try:
        make_private(path.parent)
        # mkstemp makes it 0600 from the beginning.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            return _placed(Path(name), path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise Permanent(f"--create-token-file: {path} cannot be made: {error.strerror}") from error


def _placed(made: Path, path: Path) -> bool:
    try:
        os.link(made, path)
    except FileExistsError:
        return False
    return True


def world_readable(files: Mapping[str, Path | None]) -> dict[str, Path]:
    """Of these secrets, by their options, the ones that every user of this machine can read."""
    found: dict[str, Path] = {}
    for option, path in files.items():
        try:
            if path is not None and path.stat().st_mode & stat.S_IROTH:
                found[option] = path
        except OSError:
            # Whoever reads the file says what is wrong with it.
            continue
    return found
