"""Waiting for a time of the clock, which may be set meanwhile."""

from asyncio import sleep
from typing import Final

from headrace.domain.ports import Clock

SLEEP_SECONDS_MAX: Final = 60.0
"""How late the clock is looked at again after it was set forward."""


async def sleep_towards(clock: Clock, due: float) -> None:
    """Sleep until `due` (Unix seconds), or for a minute; the caller looks at the clock again. Other
    tasks run in any case.
    """
    await sleep(min(max(due - clock.now(), 0.0), SLEEP_SECONDS_MAX))
