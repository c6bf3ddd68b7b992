"""The watchdog in real processes: which it must end, and which not."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from headrace.runtime.process import ExitCode
from tests.support.kafka import free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
LIMIT = 1.5


def stalling(processes: Processes, what: str, *, seconds: float = LIMIT) -> ServiceProcess:
    """Start a small service that blocks its loop."""
    process = processes.start(
        what,
        [sys.executable, "-m", "tests.support.stalling_service", str(seconds), what],
        env={"PYTHONPATH": str(ROOT)},
    )
    process.wait_for("turning")
    return process


@pytest.mark.parametrize("what", ["regex", "lock", "socket", "python"])
def test_a_blocked_loop_is_ended_and_its_stack_shown(processes: Processes, what: str) -> None:
    """This holds for a loop that computes with the interpreter lock, computes without it, or
    waits.
    """
    process = stalling(processes, what)
    assert process.wait(30) == ExitCode.STALLED
    assert "in hold" in process.output()


def test_a_waiting_loop_is_reported_in_one_log_record(processes: Processes) -> None:
    """If the interpreter lock is free, the log contains the stack in its own format."""
    process = stalling(processes, "lock")
    process.wait(30)
    records = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    stalled = next(record for record in records if "stalled" in str(record))
    assert any("in hold" in entry for entry in stalled["stack"]), stalled


def test_a_process_that_was_stopped_continues(processes: Processes) -> None:
    """It was stopped for more than twice the limit; afterwards it still handles a signal."""
    process = stalling(processes, "nothing")
    process.freeze()
    time.sleep(LIMIT * 2.5)  # The test needs time in which the process does not run.
    process.cont()
    continues(process)


def test_a_process_without_cpu_time_continues(processes: Processes) -> None:
    """It has the lowest priority, and there are more busy processes than processors."""
    process = stalling(processes, "nothing")
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    burners = [
        processes.start(f"burner{number}", [sys.executable, "-c", "while True: pass"])
        for number in range(3 * (os.cpu_count() or 1))
    ]
    continues(process, seconds=LIMIT * 3)
    for burner in burners:
        burner.kill()


def continues(process: ServiceProcess, *, seconds: float = LIMIT * 2) -> None:
    """Check that the process runs for longer than the limit, and ends on request."""
    until = time.monotonic() + seconds
    wait_until(
        lambda: not process.running or time.monotonic() > until, seconds + 10, "the time is over"
    )
    assert process.running, process.tail()
    assert process.stop(60) == 0


def test_zero_disables_it(processes: Processes) -> None:
    """With 0, a blocked process is not ended."""
    process = stalling(processes, "lock", seconds=0)
    until = time.monotonic() + LIMIT * 2
    wait_until(lambda: not process.running or time.monotonic() > until, 30, "the time is over")
    assert process.running


@pytest.mark.parametrize("how", ["compute", "wait"])
@pytest.mark.parametrize("service", ["ingress", "dispatcher", "controller", "up"])
def test_every_service_has_one(
    processes: Processes, tmp_path: Path, service: str, how: str
) -> None:
    """The loop is blocked at the first heartbeat."""
    setting = "dispatcher" if service == "up" else service
    options = {
        "up": [
            "--port",
            "0",
            "--controller-port",
            "0",
            "--viewer-port",
            "0",
            "--kubeconfig-out",
            str(tmp_path / "kubeconfig"),
        ],
        "ingress": ["--port", "0", "--bootstrap-servers", f"127.0.0.1:{free_port()}"],
        "dispatcher": ["--bootstrap-servers", f"127.0.0.1:{free_port()}"],
        "controller": [
            "--port",
            "0",
            "--kubeconfig-out",
            "-",
            "--bootstrap-servers",
            f"127.0.0.1:{free_port()}",
        ],
    }[service]
    process = processes.headrace(
        service,
        *options,
        "--management-port",
        "0",
        env={
            "HEADRACE_TEST": "1",
            "HEADRACE_STALL_ON": service,
            "HEADRACE_STALL_HOW": how,
            f"HEADRACE_{setting.upper()}_WATCHDOG_SECONDS": "0.5",
        },
    )
    assert process.wait(60) == ExitCode.STALLED
    assert "in stall_point" in process.output()


def test_a_worker_of_the_ingress_has_one_and_is_replaced(processes: Processes) -> None:
    """The parent of the worker logs the exit code."""
    process = processes.headrace(
        "ingress",
        "--port",
        "0",
        "--workers",
        "2",
        "--management-port",
        "0",
        "--bootstrap-servers",
        f"127.0.0.1:{free_port()}",
        env={
            "HEADRACE_TEST": "1",
            "HEADRACE_STALL_ON": "ingress worker",
            "HEADRACE_INGRESS_WATCHDOG_SECONDS": "0.5",
        },
    )
    process.wait_for("worker_exited", 60)
    assert (
        f'"exit_code": {int(signal.SIGPROF)}' in process.output()
        or f"exit_code={int(signal.SIGPROF)}" in process.output()
    )
