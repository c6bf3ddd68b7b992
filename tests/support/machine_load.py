"""What the machine did while a test failed: how long processes waited for the processor, the disk
and memory, and which tests ran beside it.

A test that only fails on a loaded machine is not reproduced by running it alone. The summary of the
run distinguishes the two kinds.
"""

import os
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

EVERY_SECONDS = 2.0
SAMPLES_MAX = 5_400
"""Three hours."""
RESOURCES = ("cpu", "io", "memory")
BESIDE_MAX = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters of the machine at one time."""

    at: float
    waited: tuple[int, ...]
    """Microseconds since boot in which some process waited for each of `RESOURCES`; empty where the
    kernel does not count them.
    """
    stolen: int
    """Ticks in which the host ran something else than this machine."""
    load: float
    available_mib: int


class MachineLoad:
    """Samples the machine in a thread until the session ends."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine-load", daemon=True)
        self._ran: list[pytest.TestReport] = []

    def pytest_sessionstart(self) -> None:
        """Start to sample."""
        self._thread.start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember when a test ran; the ones of a second and more, and those that failed."""
        if report.failed or report.stop - report.start >= 1.0:
            self._ran.append(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a paragraph for each failed test."""
        failed = [each for each in self._ran if each.failed]
        if not failed:
            return
        terminalreporter.section("the machine while a test failed")
        for report in failed:
            terminalreporter.line(f"{report.nodeid} ({report.when})")
            terminalreporter.line(f"  {self._described(report.start, report.stop)}")
            for beside in self._beside(report):
                terminalreporter.line(f"  beside {beside}")

    def pytest_sessionfinish(self) -> None:
        """Stop to sample."""
        self._ended.set()

    def _run(self) -> None:
        while len(self._samples) < SAMPLES_MAX:
            self._samples.append(_sample())
            if self._ended.wait(EVERY_SECONDS):
                return

    def _described(self, start: float, stop: float) -> str:
        times = [each.at for each in self._samples]
        # With one sample before and one after it.
        first = max(0, bisect_right(times, start) - 1)
        within = self._samples[first : bisect_left(times, stop) + 1]
        day = f"{_clock(start)} to {_clock(stop)}, {stop - start:.1f} s"
        return f"{day}: {describe(within)}" if len(within) > 1 else day

    def _beside(self, report: pytest.TestReport) -> Iterator[str]:
        others = [
            each
            for each in self._ran
            if each is not report and each.start < report.stop and each.stop > report.start
        ]
        others.sort(key=lambda each: min(each.stop, report.stop) - max(each.start, report.start))
        for each in others[-BESIDE_MAX:][::-1]:
            yield f"{each.nodeid} ({each.when}, {each.stop - each.start:.1f} s)"


def describe(samples: Sequence[Sample]) -> str:
    """The load over two or more samples, as one line."""
    first, last = samples[0], samples[-1]
    seconds = last.at - first.at
    shares = [
        f"{name} {(after - before) / 1e4 / seconds:.0f} %"
        for name, before, after in zip(RESOURCES, first.waited, last.waited, strict=True)
    ]
    stolen = (last.stolen - first.stolen) / os.sysconf("SC_CLK_TCK") / seconds
    gap = max(after.at - before.at for before, after in pairwise(samples))
    return ", ".join(
        (
            f"load average up to {max(each.load for each in samples):.1f}"
            f" on {os.cpu_count()} processors",
            *(("some process waited for " + ", ".join(shares),) if shares else ()),
            f"stolen by the host {100 * stolen:.0f} %",
            f"at least {min(each.available_mib for each in samples)} MiB of memory available",
            f"no sample for up to {gap:.1f} s",
        )
    )


def _sample() -> Sample:
    waited = tuple(
        int(line.rpartition("=")[2])
        for name in RESOURCES
        for line in _lines(f"pressure/{name}")
        if line.startswith("some")
    )
    return Sample(
        at=time.time(),
        waited=waited if len(waited) == len(RESOURCES) else (),
        stolen=next((int(line.split()[8]) for line in _lines("stat") if line[:4] == "cpu "), 0),
        load=os.getloadavg()[0],
        available_mib=next(
            (int(line.split()[1]) // 1024 for line in _lines("meminfo") if "Available" in line), 0
        ),
    )


def _lines(name: str) -> list[str]:
    try:
        return Path("/proc", name).read_text(encoding="ascii").splitlines()
    except OSError:  # Not Linux, or counters that this kernel does not have.
        return []


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
