"""What processes store in a state directory, and how the next process uses it. A process counts as
ended when its files are closed.
"""

import json
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace_dispatcher.poison_tracker import (
    DEATHS_MAX,
    LANES_SPARE,
    RECORDS_MAX,
    PoisonTracker,
    default_directory,
)

LANE = ("uid-1", "orders")
NAMES = {"kind": "Trigger", "namespace": "shop", "name": "mails"}


def die(poison_tracker: PoisonTracker, *, stalled: bool) -> None:
    """End the way a process does: its descriptors are closed, which releases the lock."""
    if stalled and poison_tracker.evidence is not None:
        os.write(poison_tracker.evidence, b"Current thread: in hold\n")
    for descriptor in poison_tracker.descriptors():
        os.close(descriptor)


def worked_on(directory: Path, offset: int, *, stalled: bool) -> None:
    """Simulate a process that died with this record in flight."""
    poison_tracker = PoisonTracker(directory)
    poison_tracker.mark(poison_tracker.lane_number(*LANE, NAMES), 0, offset)
    die(poison_tracker, stalled=stalled)


def poison(directory: Path) -> set[tuple[int, int]]:
    """Return the records that the next process would refuse to process."""
    poison_tracker = PoisonTracker(directory)
    found = set(poison_tracker.poison(*LANE))
    die(poison_tracker, stalled=False)
    return found


def test_a_record_is_poison_after_more_than_two_deaths(tmp_path: Path) -> None:
    """Only that record is poison, and only for that subscription."""
    for _ in range(DEATHS_MAX):
        worked_on(tmp_path, 17, stalled=True)
        assert poison(tmp_path) == set()
    worked_on(tmp_path, 17, stalled=True)
    assert poison(tmp_path) == {(0, 17)}
    poison_tracker = PoisonTracker(tmp_path)
    assert not poison_tracker.poison("uid-2", "orders")
    die(poison_tracker, stalled=False)


def test_the_log_names_the_subscription_whose_record_stalled_the_loop(tmp_path: Path) -> None:
    """Its uid alone says nothing to an operator; after a start of an earlier version, only that is
    known.
    """
    worked_on(tmp_path, 17, stalled=True)
    with capture_logs() as logs:
        assert poison(tmp_path) == set()
    [event] = [each for each in logs if each["event"] == "ended_by_watchdog"]
    assert NAMES == {key: event[key] for key in NAMES}
    assert "orders/0/17" == event["record"]
    worked_on(tmp_path, 18, stalled=True)
    (tmp_path / "0.lanes").write_text('["uid-1", "orders"]\n')
    with capture_logs() as logs:
        assert poison(tmp_path) == set()
    [event] = [each for each in logs if each["event"] == "ended_by_watchdog"]
    assert "uid-1" == event["subscription"]
    assert "orders/0/18" == event["record"]


def test_other_deaths_do_not_count(tmp_path: Path) -> None:
    """A death without a stall does not count for a record."""
    for _ in range(DEATHS_MAX + 3):
        worked_on(tmp_path, 17, stalled=False)
    assert poison(tmp_path) == set()


def test_a_stall_without_a_record_in_flight_blames_none(tmp_path: Path) -> None:
    """The record that was processed before has been cleared."""
    for _ in range(DEATHS_MAX + 1):
        poison_tracker = PoisonTracker(tmp_path)
        poison_tracker.mark(poison_tracker.lane_number(*LANE, NAMES), 0, 17)
        poison_tracker.clear()
        die(poison_tracker, stalled=True)
    assert poison(tmp_path) == set()


def test_processes_beside_each_other_count_together(tmp_path: Path) -> None:
    """Each process has a slot, and a starting process reads the slots of processes that have
    died.
    """
    living = PoisonTracker(tmp_path)
    living.mark(living.lane_number(*LANE, NAMES), 0, 5)
    for _ in range(DEATHS_MAX + 1):
        worked_on(tmp_path, 17, stalled=True)
    assert poison(tmp_path) == {(0, 17)}
    die(living, stalled=False)


def test_the_lanes_of_subscriptions_that_have_ended_are_forgotten(tmp_path: Path) -> None:
    """Triggers come and go as long as a process runs. The others keep their numbers."""
    tracker = PoisonTracker(tmp_path)
    number = tracker.lane_number(*LANE, NAMES)
    for each in range(2 * LANES_SPARE):
        tracker.lane_number(f"other-{each}", "orders", NAMES)
        tracker.forget(f"other-{each}")
    newest = tracker.lane_number("uid-2", "orders", NAMES)
    lines = (tmp_path / "0.lanes").read_bytes().splitlines()
    assert len(lines) <= LANES_SPARE + 4
    assert number == tracker.lane_number(*LANE, NAMES) != newest
    tracker.mark(newest, 0, 17)
    die(tracker, stalled=True)
    del tracker  # Its lock ends with the last reference to the file.
    with capture_logs() as logs:
        assert poison(tmp_path) == set()
    assert ["uid-2"] == [each[0] for each in json.loads((tmp_path / "deaths.json").read_text())]
    assert ["orders/0/17"] == [each["record"] for each in logs]


@pytest.mark.parametrize("name", ["deaths.json", "0.note", "0.lanes", "0.stack"])
@pytest.mark.parametrize("content", [b"\xff\x00{", b"[[1]]", b"[]", b"{}", b"null", b"x" * 100_000])
def test_damaged_files_cost_only_the_memory(tmp_path: Path, name: str, content: bytes) -> None:
    """The process starts, and continues counting."""
    worked_on(tmp_path, 17, stalled=True)
    (tmp_path / name).write_bytes(content)
    for _ in range(DEATHS_MAX + 1):
        worked_on(tmp_path, 18, stalled=True)
    assert (0, 18) in poison(tmp_path)


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    """The newest records are kept."""
    (tmp_path / "deaths.json").write_text(
        str([["uid-1", "orders", 0, offset, 3] for offset in range(2 * RECORDS_MAX)]).replace(
            "'", '"'
        )
    )
    assert len(poison(tmp_path)) == 2 * RECORDS_MAX
    assert poison(tmp_path) == {(0, offset) for offset in range(RECORDS_MAX, 2 * RECORDS_MAX)}


def test_a_directory_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    """In this test there is a file in its place."""
    (tmp_path / "file").write_text("")
    poison_tracker = PoisonTracker(tmp_path / "file" / "below")
    poison_tracker.mark(poison_tracker.lane_number(*LANE, NAMES), 0, 1)
    poison_tracker.clear()
    assert poison_tracker.evidence is None
    assert not poison_tracker.poison(*LANE)


def test_a_default_directory_that_others_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the directory for temporary files, any user may have created it, or a link in its
    place.
    """
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    default_directory().mkdir()
    default_directory().chmod(0o777)
    assert PoisonTracker(default_directory()).evidence is None
    default_directory().chmod(0o700)
    used = PoisonTracker(default_directory())
    assert used.evidence is not None
    die(used, stalled=False)
    default_directory().rename(tmp_path / "elsewhere")
    default_directory().symlink_to(tmp_path / "elsewhere")
    assert PoisonTracker(default_directory()).evidence is None
