"""A suspended process does nothing more once `suspend` has returned."""

import os
import subprocess
import sys
from pathlib import Path

from headrace.runtime.suspension import suspend

COUNTING = """
import threading
from pathlib import Path
import sys

def count(path):
    with path.open("w", buffering=1) as file:
        while True:
            file.write("x\\n")

for number in range(3):
    threading.Thread(target=count, args=(Path(sys.argv[1]) / str(number),), daemon=True).start()
print("up", flush=True)
threading.Event().wait()
"""


def test_all_threads_have_stopped(tmp_path: Path) -> None:
    """/proc has the state T for each of them at once, and nothing is written any longer."""
    with subprocess.Popen(
        [sys.executable, "-c", COUNTING, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        suspend(process)
        tasks = Path(f"/proc/{process.pid}/task")
        states = [
            (task / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            for task in tasks.iterdir()
        ]
        process.kill()
    assert {"T"} == set(states)
    assert 4 == len(states)


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    """Its parent has not read its exit code yet."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        suspend(process)
    assert 0 == process.returncode
