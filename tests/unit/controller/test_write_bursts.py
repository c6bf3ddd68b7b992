"""Bursts: when the loop pauses, and for how long."""

import time

from headrace.resources.kinds import OWNERSHIP_RECORD, TRIGGER
from headrace.resources.resource import Change, Resource
from headrace_controller.write_bursts import (
    END_SECONDS,
    PAUSE_FACTOR,
    RUN_ITERATIONS,
    WriteBursts,
    is_of_client,
)
from tests.unit.controller.harness import manifest, trigger


def _created(resource: Resource) -> Change:
    return Change(resource.key, "1", None, resource)


async def _run(bursts: WriteBursts, seconds: float, *, writes: bool) -> float:
    """A run of iterations that take `seconds` each; how long it pauses."""
    began = time.monotonic()
    for _ in range(RUN_ITERATIONS):
        bursts.begin_iteration()
        if writes:
            bursts.on_changes([_created(trigger())])
        await bursts.end_iteration(seconds, is_last=False)
    return time.monotonic() - began


async def test_a_run_in_which_clients_write_is_followed_by_a_pause() -> None:
    """Of a multiple of the run, while they continue."""
    assert await _run(WriteBursts([TRIGGER]), 0.02, writes=True) >= (
        PAUSE_FACTOR * RUN_ITERATIONS * 0.02
    )


async def test_the_pause_ends_with_the_burst() -> None:
    """The last resource does not wait for the longest pause."""
    paused = await _run(WriteBursts([TRIGGER]), 1.0, writes=True)
    assert END_SECONDS <= paused < 2.0


async def test_what_was_written_before_a_run_needs_no_pause() -> None:
    """Its first iteration finds it. One resource becomes Ready without a pause."""
    bursts = WriteBursts([TRIGGER])
    bursts.on_changes([_created(trigger())])
    assert await _run(bursts, 1.0, writes=False) < END_SECONDS


async def test_a_run_ends_where_nothing_is_left_to_do() -> None:
    """Then the loop waits for a change, and must not start with the first of many."""
    bursts = WriteBursts([TRIGGER])
    bursts.begin_iteration()
    bursts.on_changes([_created(trigger())])
    began = time.monotonic()
    await bursts.end_iteration(1.0, is_last=True)
    assert time.monotonic() - began >= END_SECONDS


async def test_other_kinds_do_not_count() -> None:
    """Such as the records of the controller itself."""
    bursts = WriteBursts([TRIGGER])
    bursts.begin_iteration()
    bursts.on_changes([_created(manifest(OWNERSHIP_RECORD, "record"))])
    began = time.monotonic()
    await bursts.end_iteration(1.0, is_last=True)
    assert time.monotonic() - began < END_SECONDS


def test_statuses_and_finalizers_are_of_the_controller() -> None:
    """Creations, changed specs and deletions are of clients."""
    before = trigger().with_metadata(generation=1)
    deleting = before.with_metadata(deletionTimestamp="2027-01-15T08:00:00Z", generation=2)

    def change(old: Resource | None, new: Resource | None) -> bool:
        return is_of_client(Change(before.key, "2", old, new))

    assert change(None, before)
    assert change(before, before.with_metadata(generation=2))
    assert change(before, deleting)
    assert change(before, None)
    assert not change(before, before.with_status({"conditions": []}))
    assert not change(before, before.with_metadata(finalizers=["headrace.dev/kafka"]))
    assert not change(deleting, None)
