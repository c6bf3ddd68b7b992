"""Fetches the jars of Apache Kafka once. Maven copies them into a cache directory, from which
`kafka_server.py` runs the broker.

Headrace does not contain any part of Kafka.
"""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from headrace.adapters import maven
from headrace.domain.errors import Permanent

KAFKA_VERSION = "4.3.0"
FETCH_SECONDS = 600.0

Progress = Callable[[str], None]
"""Called with one line of text per step."""


class KafkaNotInstallable(Permanent):
    """Apache Kafka cannot be installed on this machine. The message says what is missing and what
    to install.
    """


def missing_requirement() -> str | None:
    """Return what this machine lacks to run Apache Kafka from Maven; None when nothing is
    missing.
    """
    missing = maven.missing_java("Apache Kafka")
    if missing is None and not jars_directory().is_dir():
        missing = maven.missing_maven(f"Apache Kafka {KAFKA_VERSION}")
    return missing


def jars_directory(version: str = KAFKA_VERSION) -> Path:
    """Return the directory of the jars of this version. It exists only when they are complete."""
    return maven.cache_directory("kafka", version)


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
    with maven.locked(directory.parent / f"{version}.lock"):
        if not directory.is_dir():
            progress(f"fetching Apache Kafka {version} with Maven (once, about 43 MB)")
            _copy_dependencies(version, directory)
    return directory


def _copy_dependencies(version: str, directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="fetch-") as work:
        pom = Path(work) / "pom.xml"
        pom.write_text(maven.project(_artifacts(version)), encoding="utf-8")
        jars = Path(work) / "jars"
        command = maven.copy_command(pom, jars)
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
                f" {maven.failure(done.stdout + done.stderr)}"
            )
        # Renamed when complete: an interrupted fetch must not look like an installation.
        jars.rename(directory)


def _artifacts(version: str) -> list[maven.Artifact]:
    return [
        maven.Artifact("org.apache.kafka", "kafka_2.13", version),
        maven.Artifact("org.slf4j", "slf4j-simple", "1.7.36"),
    ]
