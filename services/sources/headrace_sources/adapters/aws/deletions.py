"""Deletes the messages that were delivered, several with one request."""

import asyncio
from collections import deque
from typing import Final

import structlog

from headrace_sources.adapters.aws.faults import AwsFault
from headrace_sources.adapters.aws.queue import BATCH_MAX, SqsQueue

logger = structlog.get_logger(__name__)

ATTEMPTS_MAX: Final = 3
PAUSE_SECONDS: Final = 0.5
LINGER_SECONDS: Final = 0.003
"""For the messages of one poll, whose events are taken at about the same time: AWS charges for each
request.
"""


class Deletions:
    """What waits while one request is under way is deleted with the next one."""

    def __init__(self, queue: SqsQueue) -> None:
        self._queue = queue
        self._waiting: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._wake = asyncio.Event()

    async def delete(self, receipt: str) -> bool:
        """Delete a message. Return False if it will be delivered again."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((receipt, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Delete, until cancelled. Raises `AwsFault` for what will not work later either."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(LINGER_SECONDS)
                self._wake.clear()
                while self._waiting:
                    await self._delete_next()
        finally:
            for _, done in self._waiting:
                _settle(done, False)
            self._waiting.clear()

    async def _delete_next(self) -> None:
        count = min(BATCH_MAX, len(self._waiting))
        batch = dict(self._waiting.popleft() for _ in range(count))
        try:
            for attempt in range(ATTEMPTS_MAX):
                if attempt:
                    await asyncio.sleep(PAUSE_SECONDS)
                await self._attempt(batch)
                if not batch:
                    return
        finally:
            for done in batch.values():
                _settle(done, False)
        logger.warning(
            "messages_not_deleted",
            queue=self._queue.address.name,
            count=len(batch),
            next_step="the queue delivers them again, and they are sent twice",
        )

    async def _attempt(self, batch: dict[str, asyncio.Future[bool]]) -> None:
        """Delete a batch; what remains in it was not deleted."""
        try:
            failed = await self._queue.delete(list(batch))
        except AwsFault as fault:
            if not fault.transient:
                raise
            logger.warning("delete_failed", queue=self._queue.address.name, error=str(fault))
            return
        remaining = {each.receipt: each for each in failed}
        for receipt in list(batch):
            problem = remaining.get(receipt)
            if problem is None:
                _settle(batch.pop(receipt), True)
            elif problem.by_sender:
                # The receipt has expired: the message was hidden for too short a time.
                _settle(batch.pop(receipt), False)


def _settle(done: asyncio.Future[bool], deleted: bool) -> None:
    if not done.done():
        done.set_result(deleted)
