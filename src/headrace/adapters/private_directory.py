"""Directories that only their owner can open: they hold kubeconfigs, and a Kafka log in which
Secrets are stored.
"""

import logging
import stat
from pathlib import Path

DATA_DIRECTORY = ".headrace"
"""What `headrace up` and `headrace controller` make in the working directory."""
_OWNERS = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_log = logging.getLogger("headrace.files")


def make_private(directory: Path) -> None:
    """Make `directory` and what is missing above it, 0700. A `DATA_DIRECTORY` that is there and
    open to others is tightened.

    Other directories that are there stay as they are: they are not Headrace's. Raises OSError.
    """
    for each in reversed((directory, *directory.parents)):
        try:
            each.mkdir(mode=_OWNERS)
        except OSError:
            # Also where it is there, and may be made by nobody: a read-only file system, or the
            # root.
            if not each.is_dir():
                raise
            if each.name == DATA_DIRECTORY:
                _tighten(each)


def _tighten(directory: Path) -> None:
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & _OTHERS:
            directory.chmod(_OWNERS)
            _log.warning(
                "%s was open to other users of this machine (mode %o); its mode is 700 now",
                directory,
                mode,
            )
    except OSError as error:
        _log.warning(
            "%s may be open to other users of this machine, and cannot be changed: %s; chmod it to"
            " 0700",
            directory,
            error.strerror,
        )
