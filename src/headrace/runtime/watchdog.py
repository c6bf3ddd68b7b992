"""Ends a process whose event loop has been blocked for too long, and logs where it was blocked. A
supervisor then restarts it.

An event loop can be blocked in two ways, and each needs a separate check (decision 0015):

* A call that computes and holds the interpreter lock, such as a regular expression. No Python
  thread can run during the call. A timer of the CPU time of the process (`ITIMER_PROF`) expires:
  its C handler dumps the stacks to standard error and calls `_exit`.
* A call that waits (a lock, a socket), or that computes and lets other threads run. A thread checks
  the loop, logs the stack of the thread of the loop, dumps all stacks, and ends the process.

Neither counts time during which the process could not run. CPU time does not advance in a process
that is stopped, suspended or starved. The thread counts only wake-ups that were on time, and only
while the thread of the loop was not waiting for a processor.
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

from headrace.runtime.failpoints import stall_point
from headrace.runtime.process import ExitCode

logger = structlog.get_logger(__name__)

_LOOKS: Final = 10
"""Number of checks by the thread, and of beats of the loop, within the limit; at least one a
second.
"""
_REPORT_SECONDS: Final = 2.0
"""Time limit for writing the log: the loop may be blocked because nobody reads the log."""
_FRAMES_MAX: Final = 30
_EVIDENCE_SHARE: Final = 0.8
"""Fraction of the limit, in user CPU time. Then the stack is written to the evidence file; the loop
can still recover during the rest of the limit.
"""


class Watchdog:
    """A component of a service. Add it first. Use one for each process: its signals and timers
    belong to the process.
    """

    def __init__(self, service: str, seconds: float, *, evidence: int | None = None) -> None:
        """`seconds` is how long the loop may be blocked; 0 disables the watchdog.

        `evidence` is a file opened for appending. It is empty as long as the loop runs, and
        contains a stack if the watchdog has ended the process.
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
        """Start watching the loop that runs this."""
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
        """Stop watching. Idempotent."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            self._discard_evidence()

    def _beat(self) -> None:
        """Record that the loop runs."""
        self._beats += 1
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        if self._evidence is not None:
            signal.setitimer(signal.ITIMER_VIRTUAL, _EVIDENCE_SHARE * self._seconds)
            self._discard_evidence()
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._beat)
        stall_point(self._service)

    def _discard_evidence(self) -> None:
        """Discard the evidence, because the loop runs again."""
        if self._evidence is not None and os.fstat(self._evidence).st_size:
            os.ftruncate(self._evidence, 0)

    def _watch(self) -> None:
        """Check the loop periodically, on the watchdog thread."""
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
    """Measures how long the loop has been blocked, in time during which it could have run. Used on
    the watchdog thread.
    """

    def __init__(self, seconds: float, loop_thread: threading.Thread) -> None:
        self._seconds = seconds
        self._loop_thread = loop_thread
        self._beats = -1
        self._counted = 0.0
        self._used = 0.0

    def too_long(self, beats: int, slept: float, interval: float) -> bool:
        """Check once, after a sleep of `interval` that took `slept` seconds; `beats` is the number
        of beats of the loop so far.
        """
        used = _cpu_seconds(self._loop_thread)
        used_before, self._used = self._used, used
        if beats != self._beats:
            self._beats, self._counted = beats, 0.0
        elif slept < 2 * interval and not (used == used_before and _runnable(self._loop_thread)):
            self._counted += interval
        return self._counted >= self._seconds


def _cpu_seconds(thread: threading.Thread) -> float:
    """Return the CPU time of a thread of this process, or 0.0 if the system does not report it."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
    except (AttributeError, OSError):  # macOS has no such clock.
        return 0.0


def _runnable(thread: threading.Thread) -> bool:
    """Return whether a thread is running or waits for a processor. False if the system does not
    report it.
    """
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rfind(b")") + 2 :].startswith(b"R")


def _exit_on(number: signal.Signals) -> None:
    """Make this signal dump all stacks to standard error and end the process with the signal number
    as exit code, without running Python code.

    The handler is `_exit`. The default action would also end the process, except one with process
    id 1, as in a container.
    """
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal(number, ctypes.cast(library._exit, ctypes.c_void_p))
    faulthandler.register(number, file=2, all_threads=True, chain=True)
