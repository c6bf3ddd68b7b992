"""A run of pytest that receives SIGTERM ends the processes that its tests have started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.termination import EndsOnSigterm
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[3]
SECONDS = 60.0
CONFTEST = """
import sys
from pathlib import Path

import pytest

from tests.support.processes import processes
from tests.support.termination import EndsOnSigterm


def pytest_configure(config):
    config.pluginmanager.register(EndsOnSigterm(config))


def start(processes):
    '''A child in a session of its own, as Kafka is.'''
    script = "import os, signal; os.setsid(); print('up', flush=True); signal.pause()"
    child = processes.start("child", [sys.executable, "-c", script])
    child.wait_for("up")
    Path(__file__).with_name(f"{child.pid}.pid").touch()


@pytest.fixture(scope="session")
def lasting(tmp_path_factory):
    from tests.support.processes import Processes

    started = Processes(tmp_path_factory.mktemp("lasting"))
    start(started)
    yield
    started.close()


@pytest.fixture
def child(processes):
    start(processes)
"""
IN_A_TEST = """
import signal
from pathlib import Path


def test_it(lasting, child):
    Path(__file__).with_suffix(".running").touch()
    signal.pause()


def test_the_next(lasting, child):
    signal.pause()
"""
IN_AN_EVENT_LOOP = """
import asyncio
import signal
from pathlib import Path


async def wait():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, print)
    loop.remove_signal_handler(signal.SIGTERM)


def test_with_a_handler_of_its_own():
    asyncio.run(wait())


def test_it(lasting, child):
    Path(__file__).with_suffix(".running").touch()
    asyncio.run(asyncio.sleep(600))
"""
IN_A_FIXTURE = """
import threading
from pathlib import Path

import pytest


@pytest.fixture
def slow(child):
    Path(__file__).with_suffix(".running").touch()
    threading.Event().wait()
    yield


def test_it(lasting, slow):
    pass
"""
LOST = """
import ctypes
import signal
from pathlib import Path


def test_it(lasting, child):
    Path(__file__).with_suffix(".running").touch()
    # An exception does not leave a callback of C.
    ctypes.CFUNCTYPE(None)(signal.pause)()


def test_the_next(lasting, child):
    signal.pause()
"""


def _run(directory: Path, *options: str) -> "subprocess.Popen[str]":
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "pytest.ini").write_text("[pytest]\n")
    environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", str(directory)],
        cwd=directory,
        env=environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("files", "workers", "started"),
    [
        ([IN_A_TEST], 0, 2),
        ([IN_AN_EVENT_LOOP], 0, 2),
        ([IN_A_FIXTURE], 0, 2),
        ([LOST], 0, 2),
        ([IN_A_TEST, IN_AN_EVENT_LOOP], 2, 4),
    ],
    ids=["test", "event loop", "fixture", "lost", "workers"],
)
@pytest.mark.parametrize("signals", [1, 2])
def test_processes_end_with_the_run(
    tmp_path: Path, files: list[str], workers: int, started: int, signals: int
) -> None:
    """Those of the test that runs and those of the session. A second signal changes nothing."""
    for number, text in enumerate(files):
        (tmp_path / f"test_{number}.py").write_text(text)
    run = _run(tmp_path, "-n", str(workers), "--dist", "loadfile")
    pids: set[int] = set()
    try:

        def all_started() -> bool:
            assert run.poll() is None, run.communicate()[0]
            pids.update(int(each.stem) for each in tmp_path.glob("*.pid"))
            running = list(tmp_path.glob("*.running"))
            return len(pids) == started and len(running) == len(files)

        wait_until(all_started, SECONDS, f"{started} processes of the tests run")
        for _ in range(signals):
            run.send_signal(signal.SIGTERM)
        output, _ = run.communicate(timeout=SECONDS)
        if files == [IN_A_FIXTURE]:
            # pytest 9.0 fails in the teardown of its own `tmp_path` then, also after Ctrl-C.
            assert run.returncode
        else:
            assert pytest.ExitCode.INTERRUPTED == run.returncode, output
            assert "SIGTERM was received" in output
        assert "replacing crashed worker" not in output
        assert not [pid for pid in pids if _runs(pid)], output
        assert len(list(tmp_path.glob("*.pid"))) == started, "no other test was started"
    finally:
        run.kill()
        for pid in filter(_runs, pids):
            os.kill(pid, signal.SIGKILL)


PROGRAM = """
import sys
from pathlib import Path

from tests.support.processes import Processes
from tests.support.termination import interrupt_on_sigterm

interrupt_on_sigterm()
started = Processes(Path(sys.argv[1]))
try:
    child = started.start("child", [sys.executable, "-c", "import signal; signal.pause()"])
    print(child.pid, flush=True)
    child.wait()
finally:
    started.close()
"""


def test_a_program_ends_its_processes(tmp_path: Path) -> None:
    """As `make bench` and `make chaos` do."""
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        run.send_signal(signal.SIGTERM)
        output, _ = run.communicate(timeout=SECONDS)
        assert "KeyboardInterrupt" in output
        assert not _runs(child)
    finally:
        run.kill()


def test_this_run_does(request: pytest.FixtureRequest) -> None:
    """Its processes are registered for it."""
    plugins = request.config.pluginmanager.get_plugins()
    assert any(isinstance(each, EndsOnSigterm) for each in plugins)
    assert isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), EndsOnSigterm)
