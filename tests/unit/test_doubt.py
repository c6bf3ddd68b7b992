"""When a member doubts that its group still counts it in."""

import asyncio

from headrace.adapters.kafka.doubt import Doubt
from tests.support.wait_until import wait_until_async

SECONDS = 0.05


def doubt() -> tuple[Doubt, list[bool]]:
    told: list[bool] = []
    return Doubt(told.append, seconds=SECONDS), told


async def test_a_commit_without_an_answer_makes_doubt() -> None:
    """After its time, once, however many follow; an answer ends it."""
    case, told = doubt()
    case.asked()
    assert [] == told
    await wait_until_async(lambda: told, 5, "doubt")
    case.asked()
    assert [True] == told
    case.answered()
    assert [True, False] == told


async def test_answers_in_time_make_none() -> None:
    """However long it goes on."""
    case, told = doubt()
    for _ in range(5):
        case.asked()
        await asyncio.sleep(SECONDS / 5)
        case.answered()
    await asyncio.sleep(2 * SECONDS)
    assert [] == told


async def test_the_first_commit_that_proves_nothing_counts() -> None:
    """Commits that are refused and sent again and again do not put the doubt off."""
    case, told = doubt()
    started = asyncio.get_running_loop().time()
    while not told:
        case.asked()
        await asyncio.sleep(SECONDS / 5)
    assert asyncio.get_running_loop().time() - started < 3 * SECONDS


async def test_an_answer_that_took_long_proves_nothing() -> None:
    """The group may have forgotten the member after it had answered: a process that stood still
    reads old answers first.
    """
    case, told = doubt()
    case.asked()
    await wait_until_async(lambda: told, 5, "doubt")
    case.answered()
    assert [True] == told


async def test_doubt_can_be_cast_at_once() -> None:
    """By whoever knows that time was lost."""
    case, told = doubt()
    case.begin()
    case.begin()
    case.asked()
    case.answered()
    case.end()
    assert [True, False] == told
