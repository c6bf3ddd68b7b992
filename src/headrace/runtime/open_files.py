"""The limit of open files of this process: raised at its start, and what it allows servers in
connections.

Every connection is a file descriptor. A server that takes them all keeps Kafka, files and probes
from getting any.
"""

import resource
from typing import Final

import structlog

logger = structlog.get_logger(__name__)

_RAISED_MAX: Final = 1_048_576
"""Some systems have a hard limit of a thousand million, for which child processes make tables."""
_RESERVE: Final = 256
"""Kafka clients, files, pipes and the management port."""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _RAISED_MAX if hard == resource.RLIM_INFINITY else min(hard, _RAISED_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # some systems have a further limit of their own
            logger.warning(
                "open_files_limit_not_raised",
                limit=soft,
                wanted=wanted,
                error=str(error),
            )
            return soft
    return limit()


def limit() -> int:
    """The soft limit of open files."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _RAISED_MAX if soft == resource.RLIM_INFINITY else soft


def connections_within(wanted: int, *, setting: str, files: int | None = None) -> int:
    """As many connections as are wanted, at most what the limit of open files allows less a
    reserve; logs a warning when that is less.

    The reserve is a quarter of the limit, at least 256 descriptors, at most half. `files` is the
    limit, by default this process's.
    """
    files = limit() if files is None else files
    allowed = max(1, files - min(max(_RESERVE, files // 4), files // 2))
    if wanted <= allowed:
        return wanted
    logger.warning(
        "connections_limited_by_open_files",
        setting=setting,
        wanted=wanted,
        connections=allowed,
        open_files=files,
        next_step="raise the limit of open files (ulimit -n), or lower the setting",
    )
    return allowed
