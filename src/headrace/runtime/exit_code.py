"""Exit codes of processes, in a separate module because the command line needs nothing else of a
service.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit code of a Headrace process."""

    OK = 0
    FAILED = 1
    """A component failed while running, or work was still in flight when the drain deadline passed.
    """
    NOT_STARTED = 2
    """A component could not start: a port in use, Kafka unreachable, an invalid setting."""
    STALLED = 27
    """The watchdog ended the process because its event loop was blocked. The number is that of
    SIGPROF: its handler can only exit with the signal number.
    """
    FORCED = 130
    """A second signal arrived while the process drained."""
