"""How tests are distributed over processes: by file, tests that measure time together, the longest
first.
"""

import argparse
from collections.abc import Sequence
from typing import Any, cast
from unittest import mock

import pytest
from xdist.remote import Producer

from tests.support.xdist_scheduling import (
    pytest_xdist_make_scheduler,
    rank,
    scope_of,
    uses_shared_installation,
)


def test_a_file_stays_together() -> None:
    """Its tests share an installation; colons in parameters change nothing."""
    assert {"tests/unit/domain/test_lanes.py"} == {
        scope_of(f"tests/unit/domain/test_lanes.py::{name}") for name in ("test_a", "test_b[x::y]")
    }


def test_tests_that_measure_time_do_not_run_in_parallel() -> None:
    """The runs with a ledger and the lifecycle tests go to one process."""
    timed = {
        scope_of("tests/chaos/test_ledger_run.py::test_nothing_acknowledged_is_lost"),
        scope_of("tests/chaos/test_channel_run.py::test_nothing_is_lost[kafka]"),
        scope_of("tests/integration/test_lifecycle.py::test_start_on_a_backlog"),
    }
    assert {"timed"} == timed


def test_files_that_share_an_installation_stay_together_by_place() -> None:
    """All tests of one place go to one process."""
    flows, queues = "tests/integration/test_flows.py", "tests/integration/test_sqs_sources.py"
    assert scope_of(f"{flows}::test_a[embedded]") == "shared embedded"
    assert scope_of(f"{flows}::test_b[apache-x]") == scope_of(f"{queues}::test_c[y-apache]")
    assert not uses_shared_installation("tests/integration/test_channels.py::test_a[kubernetes]")


def test_tests_with_an_api_server_share_it() -> None:
    """Whole files, and the tests of one place in the others."""
    for nodeid in (
        "tests/conformance/test_roles.py::test_a",
        "tests/integration/test_flows.py::test_a[kubernetes]",
        "tests/integration/test_channels.py::test_a[in-memory-kubernetes-binary]",
    ):
        assert scope_of(nodeid) == "cluster"
    assert "cluster" != scope_of("tests/conformance/test_crds.py::test_a[legacykubernetessource]")


def test_what_measures_time_starts_beside_what_needs_one_processor() -> None:
    """Those that measure time, then those without other processes, then the longest."""
    files = [
        "tests/conformance/test_kn.py",
        "tests/integration/test_up.py",
        "tests/upgrade/test_upgrade.py",
        "tests/unit/domain/test_lanes.py",
        "timed",
    ]
    assert list(reversed(files)) == sorted(files, key=rank)


class Worker:
    """Records what the scheduler sends to a process."""

    shutting_down = False

    def __init__(self) -> None:
        self.gateway = mock.Mock()
        self.sent: list[int] = []

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Record the tests."""
        self.sent += indices

    def shutdown(self) -> None:
        """Record the end."""
        self.shutting_down = True


def test_a_third_process_waits_for_the_tests_that_measure_time() -> None:
    """Until the last of them is done it has nothing to do."""
    timed, pure = "tests/integration/test_lifecycle.py", "tests/unit/domain/test_lanes.py"
    tests = [f"{timed}::a", f"{timed}::b", f"{pure}::a", f"{pure}::b", f"{pure}::c"]
    tests += [f"tests/integration/test_{name}.py::a" for name in "abcdef"]
    options = argparse.Namespace(loadscopereorder=False)
    config = mock.Mock(option=options, getvalue=lambda _: ["popen"] * 3)
    scheduler: Any = pytest_xdist_make_scheduler(cast(pytest.Config, config), Producer(""))
    workers = [Worker() for _ in range(3)]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    first, second, third = workers
    assert {0, 1} <= set(first.sent)
    assert {2, 3, 4} <= set(second.sent)
    scheduler.mark_test_complete(second, 2)
    scheduler.mark_test_complete(first, 0)
    assert third.sent == []
    scheduler.mark_test_complete(first, 1)
    assert len(third.sent) == 2
