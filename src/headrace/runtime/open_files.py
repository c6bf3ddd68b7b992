"""Raises the limit of open files of this process and computes how many connections it allows.

Every connection uses a file descriptor. A server that uses all of them leaves none for Kafka, files
and probes.
"""

import resource
from typing import Final

import structlog

logger = structlog.get_logger(__name__)

_RAISED_MAX: Final = 1_048_576
"""Some systems have a hard limit of a thousand million, and child processes allocate tables of that
size.
"""
_RESERVE: Final = 256
"""Minimum number of descriptors reserved for Kafka clients, files, pipes and the management port.
"""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard limit. Returns the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _RAISED_MAX if hard == resource.RLIM_INFINITY else min(hard, _RAISED_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # some systems have a further limit
            logger.warning(
                "open_files_limit_not_raised",
                limit=soft,
                wanted=wanted,
                error=str(error),
            )
            return soft
    return limit()


def limit() -> int:
    """Return the soft limit of open files."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _RAISED_MAX if soft == resource.RLIM_INFINITY else soft


def connections_within(wanted: int, *, setting: str, files: int | None = None) -> int:
    """Return `wanted` connections, or fewer if the limit of open files minus a reserve does not
    allow that many. Logs a warning in that case.

    The reserve is a quarter of the limit, at least 256 descriptors, at most half. `files` is the
    limit, by default that of this process.
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
