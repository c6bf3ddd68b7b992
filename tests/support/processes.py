"""Service processes of a test: each has its own log, is ended by pid in any case, and its log is
shown when the test fails.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from headrace.domain.egress import ALLOW_SETTING
from headrace.runtime.suspension import suspend
from headrace_sources.settings import ALLOW_SETTING as SINKS_ALLOW_SETTING
from tests.support.wait_until import wait_until

TAIL_LINES = 60
LOOPBACK_SUBSCRIBERS = {ALLOW_SETTING: "127.0.0.0/8,::1/128"}
"""For every dispatcher process of tests and benchmarks, whose subscribers are on this machine; the
default policy denies that.
"""

LOOPBACK_SINKS = {SINKS_ALLOW_SETTING: "127.0.0.0/8,::1/128"}
"""The same for the sources service."""
ANY_SOURCES_PORT = {"HEADRACE_SOURCES_PORT": "0"}
"""For every process, `headrace up` included: its default port may be in use."""


class ServiceProcess:
    """One child process. `start` may be called after its end: the same command, appending to the
    same log.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """`env` is added to this process's environment."""
        self.name = name
        self.command = list(command)
        self.log = log
        self.env = dict(env or {})
        self.started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, env: Mapping[str, str] | None = None) -> "ServiceProcess":
        """Run it; `env` is for this run only."""
        if self.running:
            raise RuntimeError(f"{self.name} already runs as process {self.pid}")
        with self.log.open("ab") as log:
            environment = {**ANY_SOURCES_PORT, **os.environ, **self.env, **(env or {})}
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        self.started_at = time.monotonic()
        return self

    @property
    def pid(self) -> int:
        """Process id of the newest run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs; a frozen process does."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code of the newest run; the negated signal number if a signal ended it."""
        return None if self._process is None else self._process.poll()

    def terminate(self) -> None:
        """Terminate it (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Interrupt it as Ctrl-C does (SIGINT)."""
        self._signal(signal.SIGINT)

    def freeze(self) -> None:
        """Suspend it, and return when it has stopped."""
        if self._process is not None and self._process.poll() is None:
            suspend(self._process)

    def cont(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it (SIGKILL) and reap it. Idempotent."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end; its exit code. AssertionError with its last lines if it does not end in
        time.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {timeout} s:\n{self.tail()}"
            ) from None

    def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM and wait."""
        self.terminate()
        return self.wait(timeout)

    def output(self) -> str:
        """Its output so far, over all runs."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its output."""
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_for(self, text: str, timeout: float = 20.0) -> None:
        """Wait until its output contains `text`; AssertionError if it ends before."""

        def said() -> bool:
            if text in self.output():
                return True
            if not self.running:
                raise AssertionError(
                    f"{self.name} ended with {self.returncode} before it wrote"
                    f" {text!r}:\n{self.tail()}"
                )
            return False

        wait_until(said, timeout, f"{self.name} writes {text!r}; it wrote:\n{self.tail()}")

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class Processes:
    """Starts processes and ends all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._all: list[ServiceProcess] = []

    def headrace(
        self, *arguments: str, name: str = "", env: Mapping[str, str] | None = None
    ) -> ServiceProcess:
        """Start the `headrace` command with these arguments."""
        if arguments[0] == "dispatcher":
            env = {**LOOPBACK_SUBSCRIBERS, **(env or {})}
        if arguments[0] == "sources":
            env = {**LOOPBACK_SINKS, **(env or {})}
        return self.start(
            name or arguments[0],
            [str(Path(sys.executable).with_name("headrace")), *arguments],
            env=env,
        )

    def start(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> ServiceProcess:
        """Start any command."""
        self.directory.mkdir(parents=True, exist_ok=True)
        process = ServiceProcess(
            name, command, log=self.directory / f"{name}-{len(self._all)}.log", env=env
        )
        self._all.append(process)
        return process.start()

    def close(self) -> None:
        """End all that still run, frozen ones too."""
        for process in reversed(self._all):
            process.kill()

    def report(self, *, lines: int = TAIL_LINES) -> str:
        """Name, end and last lines of each, for a failed test."""
        return "\n".join(
            f"--- {each.name} (exit code {each.returncode}) {each.log}\n{each.tail(lines)}"
            for each in self._all
        )


@pytest.fixture
def processes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Service processes of one test; their logs are printed when it fails."""
    started = Processes(tmp_path / "processes")
    try:
        yield started
    finally:
        report = started.report()
        started.close()
        if getattr(request.node, "failed_in_call", False):
            print(report)
