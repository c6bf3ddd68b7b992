"""Jars from Maven, in directories of a cache: for programs that Headrace runs with Java and that
are no part of it. Maven fetches them from the repository that is configured on this machine.

This module says what to run; the callers run it, blocking or on an event loop.
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

JAVA_VERSION_MIN = 17
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>runtime</artifactId><version>1</version><dependencies>
{dependencies}
</dependencies></project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


class Artifact(NamedTuple):
    """One library of a Maven repository; its dependencies come with it."""

    group: str
    name: str
    version: str


def cache_directory(*names: str) -> Path:
    """Return a directory of the cache. It exists only when its jars are complete."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache.joinpath("headrace", *names)


def missing_java(program: str) -> str | None:
    """Return what this machine lacks to run `program` with Java; None when nothing is missing."""
    if shutil.which("java") is None:
        return (
            f"no `java` on PATH (install a Java {JAVA_VERSION_MIN} runtime, on Debian:"
            " openjdk-17-jre-headless)"
        )
    version = _java_version()
    if version < JAVA_VERSION_MIN:
        return (
            f"`java` on PATH is version {version or 'unknown'}, {program} needs"
            f" {JAVA_VERSION_MIN} or newer"
        )
    return None


def missing_maven(program: str) -> str | None:
    """Return that this machine lacks Maven, which fetches `program`; None if it has it."""
    if shutil.which("mvn") is None:
        return f"no `mvn` on PATH to fetch {program} with (on Debian: maven)"
    return None


def project(artifacts: Iterable[Artifact]) -> str:
    """Return a POM that depends on these artifacts."""
    lines = (_DEPENDENCY.format(*map(escape, each)) for each in artifacts)
    return _POM.format(dependencies="\n".join(lines))


def copy_command(pom: Path, directory: Path) -> list[str]:
    """Return the command that copies the jars of a POM, and all that they depend on, into a
    directory.
    """
    return [
        "mvn",
        "-B",
        "-q",
        # Asks the repository again for what it did not have before.
        "-U",
        "-Dstyle.color=never",
        "-f",
        str(pom),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={directory}",
    ]


def failure(output: str) -> str:
    """Return the line of Maven's output that says why it failed."""
    errors = [line for line in output.splitlines() if "ERROR" in line] or output.splitlines()
    return errors[0][:300] if errors else "no output"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes while the context manager is open; wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_JAVA_VERSION: Final = re.compile(r'version "(?:1\.)?(\d+)').search


def _java_version() -> int:
    try:
        done = subprocess.run(
            ["java", "-version"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _JAVA_VERSION(done.stderr + done.stdout)
    return int(found.group(1)) if found else 0
