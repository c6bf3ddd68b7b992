"""Wait for a condition with a deadline, instead of sleeping for a guessed time."""

import asyncio
import time
from collections.abc import Callable


def _say(what: str) -> str:
    return what or "it"


def wait_until(
    predicate: Callable[[], object], timeout: float = 10.0, what: str = "", *, every: float = 0.02
) -> None:
    """Return when `predicate` is true; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {_say(what)}")
        time.sleep(every)


async def wait_until_async(
    predicate: Callable[[], object], timeout: float = 10.0, what: str = "", *, every: float = 0.01
) -> None:
    """As `wait_until`, without blocking the event loop."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {_say(what)}")
        await asyncio.sleep(every)
