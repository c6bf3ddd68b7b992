"""Runs a program that must not outlive the process that started it, however that process ends.

It is executed as a file, `python -I -S program_guard.py SECONDS DIRECTORY COMMAND...`, and imports
the standard library only. Its standard input is a pipe that the starting process keeps open; when
that pipe is closed, by the process or by its death, the program gets SIGTERM, and after SECONDS it
and all processes of its group get SIGKILL. DIRECTORY, which holds the program's files, is removed
when the program has ended; it may be empty. The exit code is that of the program, or 128 and the
number of the signal that ended it.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_CHECK_SECONDS = 0.05
NOT_STARTED = 127


def main(arguments: list[str]) -> int:
    """Run the command, until it ends or standard input does."""
    seconds, directory, *command = arguments
    wake, signalled = os.pipe()
    for descriptor in (wake, signalled):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        # A session of its own: signals for the group reach all that the program starts, and no
        # other process.
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no other thread
        )
    except OSError as error:
        sys.stdout.write(f"cannot run {command[0]}: {error}\n")
        return NOT_STARTED
    else:
        _wait(process, wake)
        return _end(process, float(seconds))
    finally:
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def _die_with_parent() -> None:
    """Let Linux kill the program if this process is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], wake: int) -> None:
    """Wait until the program ends, standard input is closed, or a signal asks to stop."""
    while process.poll() is None:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 1024):
            return
        if wake in ready and set(os.read(wake, 1024)) & {signal.SIGTERM, signal.SIGINT}:
            return


def _end(process: subprocess.Popen[bytes], seconds: float) -> int:
    """End the program and its group. Return its exit code."""
    deadline = time.monotonic() + seconds
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(_CHECK_SECONDS)
    # Also when the program has ended by itself: it may have left processes behind.
    _signal_group(process, signal.SIGKILL)
    code = process.wait()
    return code if code >= 0 else 128 - code


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
