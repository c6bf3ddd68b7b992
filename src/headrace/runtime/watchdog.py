"""Ends a process whose event loop has stood still for too long, and says in the log where it stood.
A supervisor then starts it again.

Two things can hold an event loop up, and each needs a watch of its own (decision 0015):

* A call that computes and holds the interpreter lock, such as a regular expression. No Python
  thread runs meanwhile. A timer of the
  process's own CPU time (`ITIMER_PROF`) fires: its C handler dumps the stacks to standard error and
  calls `_exit`.
* A call that waits (a lock, a socket), or one that computes and lets other threads run. A thread
  looks, logs the stack of the loop's
  thread, dumps all stacks, and ends the process.

Neither counts time in which the process could not run. CPU time stands still in a process that is
stopped, suspended or starved. The thread counts its own wake-ups, only those that came on time, and
only while the loop's thread was not waiting for a processor.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Final

import structlog

from headrace.runtime.exit_code import ExitCode
from headrace.runtime.failpoints import stall_point

logger = structlog.get_logger(__name__)

DEFAULT_SECONDS: Final = 30.0
_LOOKS: Final = 10
"""Looks of the thread, and beats of the loop, within the limit; at least one a second."""
_REPORT_SECONDS: Final = 2.0
"""For the log: the loop may stand still because nobody reads the log."""
_FRAMES_MAX: Final = 30
_EVIDENCE_SHARE: Final = 0.8
"""Of the limit, in user CPU time; then the stack goes to the evidence, and what is left of the
limit is for the loop to turn after all.
"""


class Watchdog:
    """A part of a service, to be added first. One for each process: its signals and its timers are
    the process's.
    """

    def __init__(
        self, service: str, seconds: float = DEFAULT_SECONDS, *, evidence: int | None = None
    ) -> None:
        """`seconds` is how long the loop may stand still; 0 turns the watchdog off.

        `evidence` is a file opened for appending, empty as long as the loop turns. It has a stack
        when the watchdog has ended the process.
        """
        self._service = service
        self._seconds = seconds
        self._interval = min(1.0, seconds / _LOOKS)
        self._evidence = evidence
        self._beats = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = threading.current_thread()

    async def start(self) -> None:
        """Begin to watch the loop that runs this."""
        if self._seconds <= 0:
            return
        self._loop_thread = threading.current_thread()
        _exit_on(signal.SIGPROF)
        if self._evidence is not None:
            faulthandler.register(signal.SIGVTALRM, file=self._evidence, all_threads=False)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        self._beat()

    async def stop(self) -> None:
        """Watch no more. Idempotent."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            self._discard_evidence()

    def _beat(self) -> None:
        """The loop turns."""
        self._beats += 1
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        if self._evidence is not None:
            signal.setitimer(signal.ITIMER_VIRTUAL, _EVIDENCE_SHARE * self._seconds)
            self._discard_evidence()
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._beat)
        stall_point(self._service)

    def _discard_evidence(self) -> None:
        """The loop turns after all."""
        if self._evidence is not None and os.fstat(self._evidence).st_size:
            os.ftruncate(self._evidence, 0)

    def _watch(self) -> None:
        """The thread."""
        stood = _StallTimer(self._seconds, self._loop_thread)
        slept_at = time.monotonic()
        while not self._stopping.wait(self._interval):
            now = time.monotonic()
            if stood.too_long(self._beats, now - slept_at, self._interval):
                self._end()
            slept_at = now

    def _end(self) -> None:
        if self._evidence is not None:
            with contextlib.suppress(OSError):
                faulthandler.dump_traceback(self._evidence, all_threads=True)
        report = threading.Thread(target=self._report, name="watchdog report", daemon=True)
        report.start()
        report.join(_REPORT_SECONDS)
        os._exit(ExitCode.STALLED)

    def _report(self) -> None:
        frame = sys._current_frames().get(self._loop_thread.ident or 0)
        stack = traceback.format_stack(frame, _FRAMES_MAX) if frame is not None else []
        logger.critical(
            "event_loop_stalled",
            service=self._service,
            limit_seconds=self._seconds,
            exit_code=int(ExitCode.STALLED),
            stack=[" ".join(entry.split()) for entry in stack],
        )
        with contextlib.suppress(OSError, ValueError):
            faulthandler.dump_traceback(2, all_threads=True)


class _StallTimer:
    """How long the loop has stood still, in time in which it could have run. Thread."""

    def __init__(self, seconds: float, loop_thread: threading.Thread) -> None:
        self._seconds = seconds
        self._loop_thread = loop_thread
        self._beats = -1
        self._counted = 0.0
        self._used = 0.0

    def too_long(self, beats: int, slept: float, interval: float) -> bool:
        """Look once: after `slept` seconds of a sleep of `interval`, the loop has beaten so
        often.
        """
        used = _cpu_seconds(self._loop_thread)
        used_before, self._used = self._used, used
        if beats != self._beats:
            self._beats, self._counted = beats, 0.0
        elif slept < 2 * interval and not (used == used_before and _runnable(self._loop_thread)):
            self._counted += interval
        return self._counted >= self._seconds


def _cpu_seconds(thread: threading.Thread) -> float:
    """CPU time of a thread of this process; 0.0 where the system does not say."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
    except (AttributeError, OSError):  # macOS has no such clock.
        return 0.0


def _runnable(thread: threading.Thread) -> bool:
    """Whether a thread wants a processor (or has one). False where the system does not say."""
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rfind(b")") + 2 :].startswith(b"R")


def _exit_on(number: signal.Signals) -> None:
    """Have this signal dump all stacks to standard error and end the process with its number as
    exit code, without a line of Python.

    `_exit` itself is the handler. The default action would end the process just as well, but not
    one with process id 1, as in a container.
    """
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal(number, ctypes.cast(library._exit, ctypes.c_void_p))
    faulthandler.register(number, file=2, all_threads=True, chain=True)
