"""Registers the shared fixtures, and decides what a test marked `kafka` does without a
real Kafka.
"""

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from headrace.runtime.logging import configure
from headrace.runtime.settings import LogFormat, LogSettings
from tests.support.aws_server import aws
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.kafka import (
    UNPROVEN,
    KafkaUnderTest,
    embedded_kafka,
    kafka,
    private_kafka,
    real_kafka_is_possible,
)
from tests.support.kubernetes import kubernetes
from tests.support.machine_load import MachineLoad
from tests.support.nats_cluster import nats_cluster
from tests.support.nats_server import nats_server, private_nats
from tests.support.processes import processes
from tests.support.shared_installation import pytest_runtest_setup, pytest_sessionfinish
from tests.support.termination import EndsOnSigterm
from tests.support.xdist_scheduling import (
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)

# How long an example takes is a matter of the machine; what an example costs is measured elsewhere
# (`tests/support/complexity.py`). A failed example is printed in a form that repeats it.
settings.register_profile("headrace", deadline=None, print_blob=True)
settings.load_profile("headrace")

__all__ = [
    "aws",
    "embedded_kafka",
    "kafka",
    "kubernetes",
    "nats_cluster",
    "nats_server",
    "private_kafka",
    "private_nats",
    "processes",
    "pytest_collection_modifyitems",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_xdist_make_scheduler",
]

FAILED_LINES = 12
"""How many lines of each service's log are shown when a test fails that shares the installation."""


def pytest_configure(config: pytest.Config) -> None:
    """Set up what applies to every test, in whichever process and order it runs."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(MachineLoad())
    config.pluginmanager.register(EndsOnSigterm(config))
    # Some environments write no bytecode: each of the hundred service processes would compile
    # everything again, half of its start time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(__file__).parent.with_name(".cache") / "pycache")
    )
    # A broker runs for minutes here: with the first-tier compiler alone it uses half the processor
    # time, at start and under load (measured).
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    # Without configuration log lines go to standard output, into the output of the command under
    # test.
    configure(LogSettings(format=LogFormat.PRETTY), stream=sys.__stderr__)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exempt what was collected from garbage collection: a full collection that passes over 12,000
    tests takes a second.
    """
    gc.collect()
    gc.freeze()


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
    """Store on the test item whether it failed: fixtures print their logs then. An installation
    outlives the test, so its logs are shown here.
    """
    report = yield
    if report.when == "call":
        item.failed_in_call = report.failed  # type: ignore[attr-defined]
        if report.failed:
            for used in getattr(item, "funcargs", {}).values():
                if isinstance(used, HeadraceUnderTest):
                    lines = used.processes.report(lines=FAILED_LINES)
                    report.sections.append(("the ends of the services' logs", lines))
    return report
