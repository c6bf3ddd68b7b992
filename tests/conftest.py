"""Wires the shared fixtures, and decides what a test marked `kafka` does where no real Kafka can be had."""

from collections.abc import Generator

import pytest

from tests.support.kafka import UNPROVEN, KafkaUnderTest, kafka, private_kafka, real_kafka_is_possible
from tests.support.processes import processes

__all__ = ["kafka", "private_kafka", "processes"]


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
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember on the test item whether it failed: fixtures print their logs then."""
    report = yield
    if report.when == "call":
        item.failed_in_call = report.failed  # type: ignore[attr-defined]
    return report
