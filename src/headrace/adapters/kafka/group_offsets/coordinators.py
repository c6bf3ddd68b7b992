"""Finds the broker that keeps the offsets of a group, its coordinator."""

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from confluent_kafka import KafkaError

from headrace.adapters.kafka.errors import broker_error, connection_error
from headrace.adapters.kafka.group_offsets.connection import (
    BrokerConnection,
    BrokerConnections,
    Unanswered,
)
from headrace.adapters.kafka.group_offsets.requests import (
    FIND_COORDINATOR,
    FIND_COORDINATOR_MANY,
    Address,
    find_coordinator,
    find_coordinators,
    found_coordinator,
    found_coordinators,
)

LOOKUP_SECONDS: Final = 3.0
"""Time limit for the answer of one broker; then another one is asked."""
LOOKUP_GROUPS_MAX: Final = 500
"""Groups in one request."""
_KNOWN_MAX: Final = 20_000
"""Groups whose coordinator is remembered, the newest: those of deleted subscriptions are not
reported.
"""
_PORT: Final = 9092


class Coordinators:
    """The coordinators of groups, as known. Groups that are looked for at the same time are asked
    for together.
    """

    def __init__(self, connections: BrokerConnections, bootstrap_servers: str) -> None:
        self._connections = connections
        self._bootstrap = bootstrap_addresses(bootstrap_servers)
        self._known: dict[str, Address] = {}
        self._waiting: dict[str, asyncio.Future[Address | KafkaError]] = {}
        self._lookup: asyncio.Task[None] | None = None
        self._turn = 0
        """Which broker is asked; the next one after a failure."""

    async def find(self, group: str) -> Address | KafkaError:
        """Return the coordinator, or why it was not found. The caller has a deadline."""
        known = self._known.get(group)
        if known is not None:
            return known
        loop = asyncio.get_running_loop()
        answer = self._waiting.get(group)
        if answer is None:
            answer = self._waiting[group] = loop.create_future()
        if self._lookup is None or self._lookup.done():
            self._lookup = loop.create_task(self._look_up(), name="find coordinators")
        # Not cancelled with one of those that wait for it.
        await asyncio.wait({answer})
        return answer.result()

    def forget(self, group: str, coordinator: Address) -> None:
        """Look for another one, unless it is known already."""
        if self._known.get(group) == coordinator:
            del self._known[group]

    def forget_broker(self, coordinator: Address) -> None:
        """Look for the coordinators of all its groups again."""
        for group in [each for each, known in self._known.items() if known == coordinator]:
            del self._known[group]

    async def close(self) -> None:
        """End the lookup in progress."""
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.wait({self._lookup})

    async def _look_up(self) -> None:
        await asyncio.sleep(0)  # More groups are added by callers that run now.
        try:
            while self._waiting:
                groups = list(itertools.islice(self._waiting, LOOKUP_GROUPS_MAX))
                try:
                    for group, found in await self._ask(groups):
                        self._answer(group, found)
                except Unanswered as error:
                    self._turn += 1
                    for group in groups:
                        self._answer(group, error.error)
                # Those that an answer leaves out.
                for group in groups:
                    self._answer(group, connection_error("the broker names no coordinator"))
        finally:
            for group in list(self._waiting):
                self._answer(group, connection_error("the lookup was ended"))

    def _answer(self, group: str, found: Address | KafkaError) -> None:
        waiting = self._waiting.pop(group, None)
        if waiting is None:
            return
        if isinstance(found, Address):
            self._known[group] = found
            if len(self._known) > _KNOWN_MAX:
                del self._known[next(iter(self._known))]
        if not waiting.done():
            waiting.set_result(found)

    async def _ask(self, groups: Sequence[str]) -> Iterable[tuple[str, Address | KafkaError]]:
        candidates = [*self._connections.addresses, *self._bootstrap]
        address = candidates[self._turn % len(candidates)]
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                connection = await self._connections.connection(address)
                if connection.has(FIND_COORDINATOR, FIND_COORDINATOR_MANY):
                    return _many(await connection.send(find_coordinators(groups)))
                return await asyncio.gather(*(_one(connection, each) for each in groups))
        except TimeoutError:
            reason = f"{address} names no coordinator within {LOOKUP_SECONDS:g} s"
            raise Unanswered(connection_error(reason)) from None


async def _one(connection: BrokerConnection, group: str) -> tuple[str, Address | KafkaError]:
    try:
        return group, _result(*found_coordinator(await connection.send(find_coordinator(group))))
    except Unanswered as error:
        return group, error.error


def _many(answer: object) -> Iterator[tuple[str, Address | KafkaError]]:
    for group, coordinator, error in found_coordinators(answer):
        yield group, _result(coordinator, error)


def _result(coordinator: Address, error: int) -> Address | KafkaError:
    return broker_error(error) if error else coordinator


def bootstrap_addresses(servers: str) -> list[Address]:
    """Return the addresses of `bootstrap.servers`: host:port, [IPv6 address]:port or host,
    separated by commas, each with or without a protocol and `://` before it.
    """
    found = []
    for server in servers.split(","):
        place = server.strip().rpartition("://")[2]
        host, _, port = place.rpartition(":")
        if not host or place.endswith("]"):
            host, port = place, str(_PORT)
        if host:
            found.append(Address(host.strip("[]"), int(port)))
    return found
