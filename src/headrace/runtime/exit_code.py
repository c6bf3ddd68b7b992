"""How processes end, apart from everything that they are made of: the command line needs no more of
a service than this.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a Headrace process ends."""

    OK = 0
    FAILED = 1
    """A part failed while running, or work was still in flight when the deadline for draining
    passed.
    """
    NOT_STARTED = 2
    """A part could not start: a port in use, Kafka out of reach, a setting that cannot be."""
    STALLED = 27
    """The watchdog ended it: its event loop stood still. The number is that of SIGPROF, whose
    handler can pass on no other.
    """
    FORCED = 130
    """A second signal came while it drained."""
