"""A process ends exactly at the failpoint that was set."""

import signal
import subprocess
import sys

import pytest

from headrace.runtime.failpoints import Failpoint, arm, failpoint

PASS_FOUR_TIMES = (
    "from headrace.runtime.failpoints import Failpoint, failpoint\nfor i in range(4): print(i,"
    " flush=True); failpoint(Failpoint.AFTER_POLL)"
)


def _run(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PASS_FOUR_TIMES],
        env=environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_the_process_dies_at_the_named_passage() -> None:
    """The process gets SIGKILL when it reaches the point for the third time."""
    done = _run({"HEADRACE_CRASH_AT": "after-poll:3", "HEADRACE_TEST": "1"})
    assert (done.stdout, done.returncode) == ("0\n1\n2\n", -signal.SIGKILL)


def test_nothing_happens_without_the_test_flag() -> None:
    """The variable alone, which may be left over in some environment, has no effect."""
    done = _run({"HEADRACE_CRASH_AT": "after-poll:1"})
    assert ("0\n1\n2\n3\n", 0) == (done.stdout, done.returncode)


def test_an_unknown_point_is_refused() -> None:
    """A misspelt point would prove nothing, so it is an error that lists the known ones."""
    with pytest.raises(ValueError, match="after-poll"):
        arm({"HEADRACE_CRASH_AT": "after-pole:1", "HEADRACE_TEST": "1"})
    arm({})
    failpoint(Failpoint.AFTER_POLL)
