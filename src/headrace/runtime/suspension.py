"""Suspends a child process, so that nothing answers on its connections."""

import os
import signal
import subprocess


def suspend(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Send SIGSTOP to a child, and return when all of its threads have stopped, or it has ended.

    The signal alone stops nothing yet: a thread that runs on another processor may still answer a
    request.
    """
    process.send_signal(signal.SIGSTOP)
    # `send_signal` may have read its exit code.
    if process.returncode is None:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
