"""What concerns a process as a whole: its exit codes, its end and its garbage collector.

This module imports only the standard library, because the command line needs nothing else of a
service at startup.
"""

import gc
import os
import sys
from enum import IntEnum
from typing import NoReturn


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


def exit_process(code: int) -> NoReturn:
    """End the process at once, after all components had time to stop or a second signal arrived.

    Threads that wait for an unresponsive Kafka would delay the normal exit of the interpreter until
    their requests time out.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def tune_gc() -> None:
    """Configure the garbage collector of a data plane process to run seldom, after everything has
    started: events create no reference cycles, and objects created at startup live until the
    process ends.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
