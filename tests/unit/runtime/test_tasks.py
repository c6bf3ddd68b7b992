"""Ending a component's task: the task has ended afterwards, and the caller can still be
cancelled.
"""

import asyncio

import pytest

from headrace.runtime.tasks import end_task


async def forever() -> None:
    """Work until cancelled."""
    await asyncio.Event().wait()


async def test_the_task_is_gone_afterwards() -> None:
    """None stands for a task that never started."""
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    await end_task(task)
    assert task.cancelled()
    await end_task(None)


async def test_what_the_task_had_failed_with_is_raised() -> None:
    """An error of the task must not be ignored silently."""

    async def fails() -> None:
        raise RuntimeError("a mistake")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="a mistake"):
        await end_task(task)


async def test_the_caller_that_ends_a_slow_task_can_be_cancelled() -> None:
    """Its own cancellation (for example by a deadline) is not mistaken for that of the task."""
    closing = asyncio.Event()
    release = asyncio.Event()

    async def slow() -> None:
        try:
            await forever()
        finally:
            closing.set()
            await release.wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end_task(task))
    await closing.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert not task.done()
    release.set()
    await asyncio.wait({task})
