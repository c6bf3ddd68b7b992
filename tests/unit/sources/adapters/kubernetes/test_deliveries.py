"""Deliveries: the order of the events of one object, and what may be committed when."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from headrace.domain.event import Event
from headrace_sources.adapters.kubernetes.deliveries import IN_FLIGHT_MAX, Deliveries
from headrace_sources.source import NotDelivered, new_event

EVENT = new_event("type", "/source")


class HeldEmit:
    """Implements `Emit.start`; each event waits until the test ends it."""

    def __init__(self) -> None:
        self.started: list[Callable[[Exception | None], None]] = []

    async def __call__(self, event: Event) -> None:
        raise NotImplementedError

    def start(self, event: Event, done: Callable[[Exception | None], None]) -> Callable[[], None]:
        self.started.append(done)
        return lambda: self.started.remove(done)


class Setup:
    """Deliveries with what they have committed, and what has failed."""

    def __init__(self) -> None:
        self.emit = HeldEmit()
        self.committed: list[int] = []
        self.failures: list[Exception] = []
        self.deliveries = Deliveries(self.emit, self.failures.append)

    async def send(self, key: str, number: int) -> None:
        """Send an event, unless it has to wait for longer than the loop needs to turn."""
        commit = partial(self.committed.append, number)
        task = asyncio.create_task(self.deliveries.send(key, EVENT, commit))
        await turn()
        self.waiting = task

    def end(self, index: int, error: Exception | None = None) -> None:
        """End an event that has started."""
        self.emit.started[index](error)


async def turn() -> None:
    """Let everything happen that does not wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_commits_are_in_order() -> None:
    """An event that is delivered early waits for those before it."""
    setup = Setup()
    for number, key in enumerate("abc"):
        await setup.send(key, number)
    await setup.deliveries.skip(partial(setup.committed.append, 3))
    setup.end(1)
    assert setup.committed == []
    setup.end(0)
    assert setup.committed == [0, 1]
    setup.end(2)
    assert setup.committed == [0, 1, 2, 3]
    await setup.deliveries.flush()


async def test_one_event_of_an_object_at_a_time() -> None:
    """So that a subscriber sees its changes in order."""
    setup = Setup()
    await setup.send("a", 0)
    await setup.send("a", 1)
    assert len(setup.emit.started) == 1
    setup.end(0)
    await setup.waiting
    assert len(setup.emit.started) == 2


async def test_what_is_on_its_way_is_bounded() -> None:
    """Reading waits."""
    setup = Setup()
    for number in range(IN_FLIGHT_MAX + 1):
        await setup.send(str(number), number)
    assert len(setup.emit.started) == IN_FLIGHT_MAX
    setup.end(0)
    await setup.waiting
    assert len(setup.emit.started) == IN_FLIGHT_MAX + 1


async def test_nothing_is_committed_after_a_failure() -> None:
    """And the next call raises it."""
    setup, error = Setup(), NotDelivered("no")
    await setup.send("a", 0)
    await setup.send("b", 1)
    setup.end(0, error)
    setup.end(1)
    assert setup.failures == [error]
    assert setup.committed == []
    with pytest.raises(NotDelivered):
        await setup.deliveries.flush()
    with pytest.raises(NotDelivered):
        await setup.deliveries.send("c", EVENT, lambda: None)


async def test_nothing_is_committed_after_the_end() -> None:
    """What is delivered later is sent again by the next process."""
    setup = Setup()
    await setup.send("a", 0)
    setup.deliveries.close()
    setup.end(0)
    assert setup.committed == []
