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
    assert scope_of(f"{flows}::test_a[kubernetes]") == "shared kubernetes"
    assert scope_of(f"{flows}::test_b[apache-x]") == scope_of(f"{queues}::test_c[y-apache]")
    assert not uses_shared_installation("tests/integration/test_channels.py::test_a[kubernetes]")


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
