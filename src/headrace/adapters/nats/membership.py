"""Reports to the controller which groups this process reads, in an entry that expires: a process
that dies is gone after 6 s, as a member of a Kafka group is.
"""

import asyncio
import json
from collections import Counter
from typing import Final

import structlog

from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.groups import MEMBERS, Buckets
from headrace.adapters.nats.names import durable_name
from headrace.domain.errors import HeadraceError

logger = structlog.get_logger(__name__)

_REPORT_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.5


class Membership:
    """The groups of one process."""

    def __init__(self, buckets: Buckets, process: str) -> None:
        self._buckets = buckets
        self._key = f"member.{process}"
        self._groups: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, group: str) -> None:
        """This process reads a group."""
        self._groups[durable_name(group)] += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        self._changed.set()

    async def leave(self, group: str) -> None:
        """It does no longer. Returns when the server knows, or does not answer."""
        name = durable_name(group)
        self._groups[name] -= 1
        if self._groups[name] <= 0:
            del self._groups[name]
            try:
                await self._report()
            except (ApiError, HeadraceError) as error:
                logger.info("membership_not_reported", error=str(error))

    def close(self) -> None:
        """Report nothing more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            seconds = _REPORT_SECONDS
            self._changed.clear()
            try:
                await self._report()
            except (ApiError, HeadraceError) as error:
                logger.info("membership_not_reported", error=str(error))
                seconds = _RETRY_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _report(self) -> None:
        value = json.dumps(sorted(self._groups)).encode() if self._groups else b""
        await self._buckets.put(MEMBERS, self._key, value)
