"""Programs that end with the process that started them: real processes."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from headrace.runtime.guarded_program import (
    LINE_BYTES_MAX,
    LINES_PER_SECOND_MAX,
    GuardedProgram,
)
from tests.support.wait_until import wait_until

STARTER = """
import asyncio, sys
from pathlib import Path
from headrace.runtime.guarded_program import GuardedProgram
async def main():
    program = await GuardedProgram.start(
        ["sh", "-c", "echo up; sleep 600 & sleep 600"],
        stop_seconds=1.0,
        directory=Path(sys.argv[1]),
    )
    await program.run(lambda line: print(line, flush=True))
asyncio.run(main())
"""


def descendants(pid: int) -> list[psutil.Process]:
    """The living processes below one."""
    return psutil.Process(pid).children(recursive=True)


def alive(process: psutil.Process) -> bool:
    """Whether it runs; not when only its entry is left."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def run(*command: str) -> tuple[int, list[str], GuardedProgram]:
    """Run a command to its end."""
    program = await GuardedProgram.start(command, stop_seconds=1.0)
    lines: list[str] = []
    code = await program.run(lines.append)
    return code, lines, program


async def test_output_and_exit_code() -> None:
    """Both streams, line by line; a signal is 128 and its number."""
    code, lines, _ = await run("sh", "-c", "echo one; echo two >&2; exit 3")
    assert (code, lines) == (3, ["one", "two"])
    assert (await run("sh", "-c", "kill -9 $$"))[0] == 128 + signal.SIGKILL


async def test_a_program_that_does_not_exist_says_so() -> None:
    """With the exit code of shells."""
    code, lines, _ = await run("/does/not/exist")
    assert code == 127
    assert "cannot run /does/not/exist" in lines[0]


async def test_lines_are_bounded_in_length_and_rate() -> None:
    """What is too much is counted, and the program does not wait."""
    code, lines, program = await run(
        "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; yes | head -n 5000"
    )
    assert code == 0
    assert max(map(len, lines)) == LINE_BYTES_MAX
    assert len(lines) <= 3 * LINES_PER_SECOND_MAX
    assert len(lines) + program.dropped >= 5000


async def test_cancelling_ends_all_processes_of_the_group() -> None:
    """A program that ignores SIGTERM too."""
    program = await GuardedProgram.start(
        ["sh", "-c", "trap '' TERM; sleep 600 & echo up; while :; do sleep 600; done"],
        stop_seconds=0.2,
    )
    up = asyncio.Event()
    task = asyncio.create_task(program.run(lambda line: up.set()))
    await asyncio.wait_for(up.wait(), 10)
    below = [each for each in descendants(os.getpid()) if each.name() in ("sh", "sleep")]
    assert len(below) >= 2
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()
    assert [each for each in below if alive(each)] == []


@pytest.mark.parametrize("victim", ["starter", "guard"])
def test_nothing_is_left_behind_after_kill_9(tmp_path: Path, victim: str) -> None:
    """Of the process that started the program, or of the guard between them."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "secret").write_text("x")
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        below = descendants(starter.pid)
        shell = next(each for each in below if each.name() == "sh")
        guard = shell.parent()
        assert guard is not None
        (starter if victim == "starter" else guard).send_signal(signal.SIGKILL)
        gone = below if victim == "starter" else [shell]
        wait_until(lambda: not any(map(alive, gone)), 10, "all have ended")
        if victim == "starter":
            assert not directory.exists()
    finally:
        starter.kill()
        starter.communicate()
        for each in below:
            if alive(each):
                each.kill()
