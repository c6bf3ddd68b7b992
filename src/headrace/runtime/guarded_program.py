"""A program that runs beside this process, and ends with it: see `program_guard`.

Its output arrives line by line. Lines are bounded in length and rate, so that a program that writes
without end neither fills the memory nor the log.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from headrace.runtime import program_guard

LINE_BYTES_MAX: Final = 4_096
LINES_PER_SECOND_MAX: Final = 100
LAST_LINES: Final = 400
"""How many lines are kept."""
_CHUNK_BYTES: Final = 65_536
_EXIT_SECONDS: Final = 1.0

PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "MAVEN_OPTS",
    "XDG_CACHE_HOME",
)
"""The environment variables that a program gets from this process. The others may hold secrets."""

OnLine = Callable[[str], None]


def passed_on() -> Mapping[str, str]:
    """The environment of a program."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


class GuardedProgram:
    """One running program. Not shared between tasks."""

    def __init__(self, process: asyncio.subprocess.Process, stop_seconds: float) -> None:
        """Use `start`."""
        self._process = process
        self._stop_seconds = stop_seconds
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.dropped = 0
        """Lines that were not passed on, because there were too many in one second."""

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        stop_seconds: float,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
    ) -> "GuardedProgram":
        """Start a program. When it is to end, it gets SIGTERM, and SIGKILL `stop_seconds` later.
        `directory` is removed when it has ended. Raises OSError if there can be no more processes,
        or if there is no such `working_directory`.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            program_guard.__file__,
            str(stop_seconds),
            str(directory or ""),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=passed_on() if environment is None else environment,
            cwd=working_directory,
            # Ctrl-C on the terminal ends this process, which ends the program.
            start_new_session=True,
        )
        return cls(process, stop_seconds)

    async def run(self, on_line: OnLine) -> int:
        """Pass on the lines of its output until it ends; return its exit code, 128 and more for a
        signal. When cancelled, the program is ended, and so are the processes that it has started.
        """
        try:
            await self._read(on_line)
            return await self._process.wait()
        finally:
            await self._stop(on_line)

    async def _stop(self, on_line: OnLine) -> None:
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is not None:
            return
        try:
            async with asyncio.timeout(self._stop_seconds + _EXIT_SECONDS):
                await self._read(on_line)
                await process.wait()
        finally:
            # The kernel ends the program with the guard.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    async def _read(self, on_line: OnLine) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        rest, limit = b"", _RateLimit()
        while chunk := await stream.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take(line, on_line, limit)
        if rest:
            self._take(rest, on_line, limit)

    def _take(self, line: bytes, on_line: OnLine, limit: "_RateLimit") -> None:
        text = line[:LINE_BYTES_MAX].decode("utf-8", errors="replace").rstrip()
        if not text:
            return
        self.last_lines.append(text)
        if limit.allows():
            on_line(text)
        else:
            self.dropped += 1


class _RateLimit:
    """Counts per second."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0

    def allows(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= LINES_PER_SECOND_MAX
