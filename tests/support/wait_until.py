"""Wait for a condition with a deadline, instead of sleeping for a guessed time."""

import asyncio
import time
from collections.abc import Callable


def _say(what: str) -> str:
    return what or "it"


GROWTH = 0.1
"""The time between two checks, as a part of the time waited so far: a check is a request in most
tests, and with a fixed short interval these were most of the work of the tests' processes.
"""
EVERY_MAX = 0.5


def wait_until(
    predicate: Callable[[], object], timeout: float = 10.0, what: str = "", *, every: float = 0.02
) -> None:
    """Return when `predicate` is true; AssertionError naming `what` after `timeout` seconds. It is
    checked every `every` seconds at first, and less often the longer it takes.
    """
    started = time.monotonic()
    while not predicate():
        waited = time.monotonic() - started
        if waited > timeout:
            raise AssertionError(f"not within {timeout} s: {_say(what)}")
        time.sleep(_pause(every, waited))


async def wait_until_async(
    predicate: Callable[[], object], timeout: float = 10.0, what: str = "", *, every: float = 0.01
) -> None:
    """As `wait_until`, without blocking the event loop."""
    started = time.monotonic()
    while not predicate():
        waited = time.monotonic() - started
        if waited > timeout:
            raise AssertionError(f"not within {timeout} s: {_say(what)}")
        await asyncio.sleep(_pause(every, waited))


def _pause(every: float, waited: float) -> float:
    return max(every, min(EVERY_MAX, waited * GROWTH))
