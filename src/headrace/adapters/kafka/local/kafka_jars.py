"""Fetches the jars of Apache Kafka once. Maven copies them into a cache directory, from which
`kafka_server.py` runs the broker.

Headrace does not contain any part of Kafka. Maven fetches it from the repository that is configured
on this machine.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.domain.errors import Permanent

KAFKA_VERSION = "4.3.0"
JAVA_VERSION_MIN = 17
FETCH_SECONDS = 600.0

Progress = Callable[[str], None]
"""Called with one line of text per step."""

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka-runtime</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""


class KafkaNotInstallable(Permanent):
    """Apache Kafka cannot be installed on this machine. The message says what is missing and what
    to install.
    """


def missing_requirement() -> str | None:
    """Return what this machine lacks to run Apache Kafka from Maven; None when nothing is
    missing.
    """
    if shutil.which("java") is None:
        return (
            f"no `java` on PATH (install a Java {JAVA_VERSION_MIN} runtime, on Debian:"
            " openjdk-17-jre-headless)"
        )
    version = _java_version()
    if version < JAVA_VERSION_MIN:
        return (
            f"`java` on PATH is version {version or 'unknown'}, Apache Kafka needs"
            f" {JAVA_VERSION_MIN} or newer"
        )
    if not jars_directory().is_dir() and shutil.which("mvn") is None:
        return f"no `mvn` on PATH to fetch Apache Kafka {KAFKA_VERSION} with (on Debian: maven)"
    return None


def jars_directory(version: str = KAFKA_VERSION) -> Path:
    """Return the directory of the jars of this version. It exists only when they are complete."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "headrace" / "kafka" / version


def fetch_jars(progress: Progress, *, version: str = KAFKA_VERSION) -> Path:
    """Return the directory of the jars. The first call fetches them (about 43 MB).

    Raises `KafkaNotInstallable`. Safe to run from several processes concurrently: one fetches, the
    others wait for it.
    """
    directory = jars_directory(version)
    if directory.is_dir():
        return directory
    missing = missing_requirement()
    if missing is not None:
        raise KafkaNotInstallable(
            f"cannot run Apache Kafka here: {missing}; or set KAFKA_BOOTSTRAP_SERVERS to one that"
            " runs elsewhere"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent / f"{version}.lock"):
        if not directory.is_dir():
            progress(f"fetching Apache Kafka {version} with Maven (once, about 43 MB)")
            _copy_dependencies(version, directory)
    return directory


def _copy_dependencies(version: str, directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="fetch-") as work:
        pom = Path(work) / "pom.xml"
        pom.write_text(_POM.format(version=version), encoding="utf-8")
        jars = Path(work) / "jars"
        command = [
            "mvn",
            "-B",
            "-q",
            "-f",
            str(pom),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={jars}",
        ]
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KafkaNotInstallable(
                f"Maven did not fetch Apache Kafka {version} within {FETCH_SECONDS:.0f} s; try"
                " again"
            ) from error
        if done.returncode != 0:
            raise KafkaNotInstallable(
                f"Maven could not fetch Apache Kafka {version}:"
                f" {_last_line(done.stdout + done.stderr)}"
            )
        # Renamed when complete: an interrupted fetch must not look like an installation.
        jars.rename(directory)


def _last_line(output: str) -> str:
    errors = [line for line in output.splitlines() if "ERROR" in line] or output.splitlines()
    return errors[0][:300] if errors else "no output"


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
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found.group(1)) if found else 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
