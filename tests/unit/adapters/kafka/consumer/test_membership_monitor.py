"""When a membership counts as unconfirmed."""

import asyncio

from headrace.adapters.kafka.consumer.membership_monitor import MembershipMonitor
from tests.support.wait_until import wait_until_async

SECONDS = 0.05


def new_monitor() -> tuple[MembershipMonitor, list[bool]]:
    changes: list[bool] = []
    return MembershipMonitor(changes.append, seconds=SECONDS), changes


async def test_a_commit_without_an_answer_makes_it_unconfirmed() -> None:
    """After its time, once, however many follow; an answer ends it."""
    monitor, changes = new_monitor()
    monitor.commit_sent()
    assert [] == changes
    await wait_until_async(lambda: changes, 5, "unconfirmed")
    monitor.commit_sent()
    assert [True] == changes
    monitor.commit_answered()
    assert [True, False] == changes


async def test_answers_in_time_make_none() -> None:
    """However long it takes."""
    monitor, changes = new_monitor()
    for _ in range(5):
        monitor.commit_sent()
        await asyncio.sleep(SECONDS / 5)
        monitor.commit_answered()
    await asyncio.sleep(2 * SECONDS)
    assert [] == changes


async def test_the_first_commit_that_proves_nothing_counts() -> None:
    """Commits that are refused and sent again and again do not postpone it."""
    monitor, changes = new_monitor()
    started = asyncio.get_running_loop().time()
    while not changes:
        monitor.commit_sent()
        await asyncio.sleep(SECONDS / 5)
    assert asyncio.get_running_loop().time() - started < 3 * SECONDS


async def test_an_answer_that_took_long_proves_nothing() -> None:
    """The group may have forgotten the member after it had answered: a process that stood still
    reads old answers first.
    """
    monitor, changes = new_monitor()
    monitor.commit_sent()
    await wait_until_async(lambda: changes, 5, "unconfirmed")
    monitor.commit_answered()
    assert [True] == changes


async def test_it_can_be_suspended_at_once() -> None:
    """By the watchdog that noticed a standstill."""
    monitor, changes = new_monitor()
    monitor.suspend()
    monitor.suspend()
    monitor.commit_sent()
    monitor.commit_answered()
    monitor.confirm()
    assert [True, False] == changes
