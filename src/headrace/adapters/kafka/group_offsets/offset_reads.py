"""Reads offsets of many groups with few requests: groups that are read at the same time from one
coordinator are in one request.
"""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Iterator
from typing import Final, NamedTuple

from headrace.adapters.kafka.errors import connection_error
from headrace.adapters.kafka.group_offsets.connection import (
    BrokerConnection,
    BrokerConnections,
    Unanswered,
)
from headrace.adapters.kafka.group_offsets.requests import (
    OFFSET_FETCH,
    OFFSET_FETCH_MANY,
    Address,
    GroupPositions,
    fetch_offsets,
    fetch_offsets_of_many,
    fetched_offsets,
    fetched_offsets_of_one,
)
from headrace.domain.record import Partition

READ_GROUPS_MAX: Final = 200
"""Groups in one request."""
READ_PARTITIONS_MAX: Final = 1_000
"""Partitions in one request, if it has more than one group. Encoding and decoding these takes about
10 ms of the event loop.
"""


class _Read(NamedTuple):
    group: str
    partitions: Collection[Partition]
    answer: "asyncio.Future[GroupPositions | Unanswered]"


class OffsetReads:
    """The reads in progress."""

    def __init__(self, connections: BrokerConnections) -> None:
        self._connections = connections
        self._waiting: dict[Address, list[_Read]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(
        self, coordinator: Address, group: str, partitions: Collection[Partition]
    ) -> GroupPositions:
        """Return what the coordinator answers. Raises `Unanswered`. The caller has a deadline."""
        loop = asyncio.get_running_loop()
        read = _Read(group, partitions, loop.create_future())
        waiting = self._waiting.setdefault(coordinator, [])
        waiting.append(read)
        if len(waiting) == 1:
            self._start(self._send_waiting(coordinator))
        answer = await read.answer
        if isinstance(answer, Unanswered):
            raise answer
        return answer

    async def close(self) -> None:
        """End the reads in progress."""
        tasks = list(self._tasks)
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="read offsets")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_waiting(self, coordinator: Address) -> None:
        await asyncio.sleep(0)  # More groups are added by callers that run now.
        for reads in _requests(self._waiting.pop(coordinator)):
            self._start(self._send(coordinator, reads))
            # Others use the event loop before the next request is encoded.
            await asyncio.sleep(0)

    async def _send(self, coordinator: Address, reads: list[_Read]) -> None:
        missing = Unanswered(connection_error("the answer leaves out the group"))
        try:
            connection = await self._connections.connection(coordinator)
            if connection.has(OFFSET_FETCH, OFFSET_FETCH_MANY):
                request = fetch_offsets_of_many({each.group: each.partitions for each in reads})
                answers = dict(fetched_offsets(await connection.send(request)))
                for each in reads:
                    _answer(each, answers.get(each.group, missing))
            else:
                await asyncio.gather(*(_send_one(connection, each) for each in reads))
        except Unanswered as error:
            missing = error
        finally:
            for each in reads:
                _answer(each, missing)


async def _send_one(connection: BrokerConnection, read: _Read) -> None:
    try:
        answer = await connection.send(fetch_offsets(read.group, read.partitions))
    except Unanswered as error:
        _answer(read, error)
    else:
        _answer(read, fetched_offsets_of_one(answer))


def _answer(read: _Read, answer: GroupPositions | Unanswered) -> None:
    if not read.answer.done():
        read.answer.set_result(answer)


def _requests(reads: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Yield the reads of each request, in which a group is once."""
    chosen: dict[str, _Read] = {}
    partitions = 0
    for read in reads:
        partitions += len(read.partitions)
        full = len(chosen) == READ_GROUPS_MAX or partitions > READ_PARTITIONS_MAX
        if chosen and (full or read.group in chosen):
            yield list(chosen.values())
            chosen, partitions = {}, len(read.partitions)
        chosen[read.group] = read
    yield list(chosen.values())
