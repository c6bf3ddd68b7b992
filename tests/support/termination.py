"""SIGTERM ends a run of pytest as Ctrl-C does: fixtures end the processes that they have started.

Without it the process ends at once, and Kafka, servers and services keep running. With `pytest -n`
the first process passes the signal on to its workers and waits for them: they have the fixtures.
"""

import signal
from types import FrameType
from typing import Any, Final

import psutil
import pytest

REASON: Final = "SIGTERM was received"


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, with what it has started. For the main functions
    of benchmarks and long runs.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class EndsOnSigterm:
    """Plugin of the first process and of each worker; register it in `pytest_configure`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session: pytest.Session | None = None
        self._distributing = False
        self._received = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Handle the signal from now on."""
        self._session = session
        self._handle()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """From now on the workers report when they have ended."""
        self._distributing = self._config.pluginmanager.has_plugin("dsession")

    def pytest_runtest_logstart(self) -> None:
        """A test before this one may have removed the handler: every event loop does that with a
        handler of its own.
        """
        self._handle()

    def pytest_sessionfinish(self) -> None:
        """Report a worker as stopped. As interrupted, it would be replaced by a new one."""
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if self._received and output is not None:
            output["exitstatus"] = int(pytest.ExitCode.TESTS_FAILED)

    def pytest_unconfigure(self) -> None:
        """Remove the handler."""
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self) -> None:
        if signal.getsignal(signal.SIGTERM) != self._on_signal:
            signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._received:
            return  # Fixtures are ending what they have started.
        self._received = True
        if self._session is not None:
            # Should the exception get lost, in a callback of a library, the next test is not run.
            self._session.shouldstop = REASON
        scheduler: Any = self._config.pluginmanager.get_plugin("dsession")
        if scheduler is not None:
            for worker in psutil.Process().children():
                worker.terminate()
        if not self._distributing:
            raise KeyboardInterrupt(REASON)
        scheduler.shouldstop = REASON
