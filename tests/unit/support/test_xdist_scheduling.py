"""How tests are distributed over processes: by file, tests that measure time together, the longest
first.
"""

from tests.support.xdist_scheduling import rank, scope_of, uses_shared_installation


def test_a_file_stays_together() -> None:
    """Its tests share an installation; colons in parameters change nothing."""
    assert {"tests/unit/domain/test_lanes.py"} == {
        scope_of(f"tests/unit/domain/test_lanes.py::{name}") for name in ("test_a", "test_b[x::y]")
    }


def test_tests_that_measure_time_do_not_run_in_parallel() -> None:
    """The long ledger run and the lifecycle tests go to one process; the second ledger run may go
    to another.
    """
    ledger = "tests/chaos/test_ledger_run.py::"
    timed = {
        scope_of(f"{ledger}test_nothing_acknowledged_is_lost"),
        scope_of("tests/integration/test_lifecycle.py::test_start_on_a_backlog"),
    }
    assert 1 == len(timed)
    assert {scope_of(f"{ledger}test_nothing_is_lost_under_the_new_group_protocol")} != timed


def test_files_that_share_an_installation_stay_together_by_place() -> None:
    """All tests of one place go to one process."""
    flows, queues = "tests/integration/test_flows.py", "tests/integration/test_sqs_sources.py"
    assert scope_of(f"{flows}::test_a[kubernetes]") == "shared kubernetes"
    assert scope_of(f"{flows}::test_b[apache-x]") == scope_of(f"{queues}::test_c[y-apache]")
    assert not uses_shared_installation("tests/integration/test_channels.py::test_a[kubernetes]")


def test_the_longest_start_first() -> None:
    """Those that measure time, then failpoints, then others with a Kafka, then pure ones."""
    files = [
        "tests/unit/domain/test_lanes.py",
        "tests/integration/test_up.py",
        "tests/upgrade/test_upgrade.py",
        "tests/chaos/test_failpoints.py",
        "timed",
    ]
    assert list(reversed(files)) == sorted(files, key=rank)
