"""Directories that only their owner can open: they contain kubeconfigs, and a Kafka log in which
Secrets are stored.
"""

import stat
from pathlib import Path

import structlog

DATA_DIRECTORY = ".headrace"
"""The directory that `headrace up` and `headrace controller` create in the working directory."""
_OWNERS = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

logger = structlog.get_logger(__name__)


def make_private(directory: Path) -> None:
    """Create `directory` and its missing parents with mode 0700. An existing `DATA_DIRECTORY` that
    is open to other users gets mode 0700 too.

    Other existing directories keep their mode: they do not belong to Headrace. Raises OSError.
    """
    for each in reversed((directory, *directory.parents)):
        try:
            each.mkdir(mode=_OWNERS)
        except OSError:
            # Also raised for existing directories that could not be created, such as the root or
            # one on a read-only file system.
            if not each.is_dir():
                raise
            if each.name == DATA_DIRECTORY:
                _restrict(each)


def _restrict(directory: Path) -> None:
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & _OTHERS:
            directory.chmod(_OWNERS)
            logger.warning(
                "directory_was_open_to_other_users", directory=str(directory), old_mode=f"{mode:o}"
            )
    except OSError as error:
        logger.warning(
            "directory_may_be_open_to_other_users",
            directory=str(directory),
            error=error.strerror,
            next_step="set the mode of the directory to 0700",
        )
