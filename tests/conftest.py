"""Wires the shared fixtures, and decides what a test marked `kafka` does where no real Kafka can be
had.
"""

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from headrace.runtime.logging import configure
from headrace.runtime.settings import LogFormat, LogSettings
from tests.support.kafka import (
    UNPROVEN,
    KafkaUnderTest,
    embedded_kafka,
    kafka,
    private_kafka,
    real_kafka_is_possible,
)
from tests.support.kubernetes import kubernetes
from tests.support.processes import processes
from tests.support.xdist_scheduling import (
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)

__all__ = [
    "embedded_kafka",
    "kafka",
    "kubernetes",
    "private_kafka",
    "processes",
    "pytest_collection_modifyitems",
    "pytest_xdist_make_scheduler",
]


def pytest_configure() -> None:
    """Set up what holds for every test, whichever process runs it and whatever ran before."""
    # Some environments write no bytecode: each of the hundred service processes would compile
    # everything anew, for half of its start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(__file__).parent.with_name(".cache") / "pycache")
    )
    # A broker lives for minutes here: with the quick compiler alone it costs half the processor
    # time, start and load alike (measured).
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    # Unconfigured, log lines go to standard output, into the middle of what a command under test
    # prints there.
    configure(LogSettings(format=LogFormat.PRETTY), stream=sys.__stderr__)


@pytest.fixture(autouse=True)
def _real_kafka_where_marked(request: pytest.FixtureRequest) -> None:
    """Skip a test marked `kafka` when this session has only the mock cluster."""
    if request.node.get_closest_marker("kafka") is None:
        return
    if not real_kafka_is_possible():
        pytest.skip(UNPROVEN)
    if "kafka" in request.fixturenames:
        found: KafkaUnderTest = request.getfixturevalue("kafka")
        if not found.real:
            pytest.skip(UNPROVEN)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember on the test item whether it failed: fixtures print their logs then."""
    report = yield
    if report.when == "call":
        item.failed_in_call = report.failed  # type: ignore[attr-defined]
    return report
