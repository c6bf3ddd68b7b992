"""`headrace up --kafka apache` of either version, in a directory of its own."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until

HEADRACE = Path(sys.executable).with_name("headrace")
"""The command of this version."""
START_SECONDS = 120.0
STOP_SECONDS = 45.0
ANY_PORTS = (
    "--port",
    "0",
    "--controller-port",
    "0",
    "--management-port",
    "0",
    "--viewer-port",
    "0",
)
SURROUNDINGS: Mapping[str, str] = {
    "KAFKA_BOOTSTRAP_SERVERS": "",
    "HEADRACE_LOG_FORMAT": "json",
    "HEADRACE_LOG_LEVEL": "info",
    # So that a dead letter topic of a deleted Trigger still exists whenever the test runs.
    "HEADRACE_CONTROLLER_DEAD_LETTER_GRACE_SECONDS": str(9_000 * 24 * 3600),
}


@contextlib.contextmanager
def running_up(
    processes: Processes,
    headrace: Path,
    directory: Path,
    *arguments: str,
) -> Iterator[ServiceProcess]:
    """Run it on `directory`/.headrace until the block ends, and stop its Kafka in any case."""
    options = ("--kafka", "apache", "--kubeconfig-out", "-", *arguments)
    inside = ("sh", "-c", 'cd "$0" && exec "$@"', str(directory), str(headrace.absolute()))
    try:
        process = processes.start("up", [*inside, "up", *ANY_PORTS, *options], env=SURROUNDINGS)
        process.wait_for("Ctrl-C ends.", START_SECONDS)
        yield process
        assert process.stop(STOP_SECONDS) == 0, process.tail()
    finally:
        _end_kafka(directory)


def _end_kafka(directory: Path) -> None:
    """It is in a session of its own, and keeps running after a `headrace up` that did not end in
    order.
    """
    try:
        file = directory / ".headrace" / "kafka" / "kafka.pid"
        pid = int(file.read_text(encoding="ascii").split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if str(directory.resolve()).encode() in command:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _runs(pid), 10, f"Kafka (process {pid}) has ended")


def _runs(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
