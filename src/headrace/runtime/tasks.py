"""The tasks of components."""

import asyncio


async def end_task(task: asyncio.Task[None] | None) -> None:
    """Cancel the task of a component and wait until it has ended; None means that it was never
    started. Raises the exception with which the task failed.
    """
    if task is not None:
        task.cancel()
        # Not `await task`: its cancellation and that of the caller, for example by a deadline,
        # would look the same.
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
