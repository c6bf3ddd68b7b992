"""Queries about all subscriptions from time to time, and about those that are added at once."""

import asyncio
from collections.abc import Awaitable, Callable


async def query_periodically(
    query: Callable[[bool], Awaitable[None]],
    added: asyncio.Event,
    *,
    every_seconds: float,
    together_seconds: float = 0.0,
) -> None:
    """Call `query` with True immediately and every `every_seconds`, and with False
    `together_seconds` after `added` was set. Runs until it is cancelled.
    """
    loop = asyncio.get_running_loop()
    again_at = loop.time()
    while True:
        added.clear()
        is_due = loop.time() >= again_at
        if is_due:
            again_at = loop.time() + every_seconds
        await query(is_due)
        try:
            async with asyncio.timeout_at(again_at):
                await added.wait()
            await asyncio.sleep(together_seconds)
        except TimeoutError:
            again_at = loop.time()  # It may come a moment early.
