"""Docker containers that a killed process of this service has left behind.

A process that ends takes its containers with it; one that is killed leaves those that do not end at
SIGTERM. Each container has labels that name its source and the process that started it, so that a
later process can remove it.
"""

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from headrace_sources.adapters.container.programs import ADAPTER_READY, docker_environment
from headrace_sources.source import SourceFault

SOURCE_LABEL: Final = "headrace.dev/source-uid"
PROCESS_LABEL: Final = "headrace.dev/process"
_SECONDS: Final = 20.0
_VERSION_SECONDS: Final = 5.0
_REMOVE_SECONDS: Final = 1.5
_FORMAT: Final = f'{{{{.ID}}}} {{{{.Label "{SOURCE_LABEL}"}}}} {{{{.Label "{PROCESS_LABEL}"}}}}'


def labels_of(uid: str) -> Mapping[str, str]:
    """The labels of a container of this source."""
    return {SOURCE_LABEL: uid, PROCESS_LABEL: _this_process()}


async def docker_runs() -> bool:
    """Whether there is a docker command, and a daemon that answers it."""
    try:
        code, _, _ = await _run(("version", "--format={{.Server.Version}}"), _VERSION_SECONDS)
    except (OSError, TimeoutError):
        return False
    return code == 0


async def remove_orphans(uid: str) -> int:
    """Remove what earlier processes on this machine have left of the source, and of any source if
    the process is gone. Return how many. Raises SourceFault if Docker does not answer.
    """
    output = await _docker("ps", "--all", f"--filter=label={SOURCE_LABEL}", f"--format={_FORMAT}")
    found = [each for each, source, process in _lines(output) if _is_orphan(source, process, uid)]
    if found:
        await _docker("rm", "--force", *found)
    return len(found)


async def remove(name: str) -> None:
    """Remove one container if it still exists, within 1.5 s."""
    try:
        await _run(("rm", "--force", name), _REMOVE_SECONDS)
    except (OSError, TimeoutError):
        return


def _is_orphan(source: str, process: str, uid: str) -> bool:
    host, _, rest = process.partition("/")
    if host != _host():
        return False  # Another machine, or another container, uses the same Docker.
    return source == uid or not _is_alive(rest)


def _lines(output: str) -> Iterator[Sequence[str]]:
    for line in output.splitlines():
        parts = line.split(" ")
        if len(parts) == 3:
            yield parts


async def _docker(*arguments: str) -> str:
    try:
        code, output, errors = await _run(arguments, _SECONDS)
    except FileNotFoundError:
        raise SourceFault(
            "DockerMissing",
            "the sources service cannot run containers: there is no docker command in its PATH",
            condition=ADAPTER_READY,
        ) from None
    except TimeoutError:
        raise SourceFault(
            "DockerUnavailable",
            f"Docker did not answer within {_SECONDS:g} s; look at the Docker daemon",
            condition=ADAPTER_READY,
        ) from None
    if code != 0:
        raise SourceFault(
            "DockerUnavailable",
            f"Docker does not answer as expected: {errors.strip()[:300]}",
            condition=ADAPTER_READY,
        )
    return output


async def _run(arguments: Sequence[str], seconds: float) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        "docker",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=docker_environment(),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


def _this_process() -> str:
    pid = os.getpid()
    return f"{_host()}/{pid}/{_start_time(pid)}"


def _host() -> str:
    return socket.gethostname()


def _is_alive(process: str) -> bool:
    """Whether the process with this pid and start time lives."""
    pid, _, started = process.partition("/")
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return not started or _start_time(int(pid)) == started


def _start_time(pid: int) -> str:
    """When a process was started, in ticks since the machine was; empty where that is unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
