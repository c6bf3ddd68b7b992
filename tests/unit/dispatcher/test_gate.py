"""The gate between the lanes of a subscription and its breaker: no lane waits forever for an answer
that does not come.
"""

import asyncio
from dataclasses import dataclass, field

from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.breaker import Breaker, BreakerState
from headrace.domain.delivery import Failure, Outcome
from headrace.domain.record import Record, StoredRecord
from headrace.domain.routing import Reply
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.gate import BreakerGate
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    REPLY,
    RETRY,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
    retry_headers,
)

UNREACHABLE = Outcome(failure=Failure.CONNECT)
ANSWERED = Outcome(status=200)


@dataclass
class GateHarness:
    """A gate with a breaker that is open and may probe now."""

    clock: MemoryClock = field(default_factory=MemoryClock)
    pumped: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.breaker = Breaker(128)
        self.gate = BreakerGate(breaker=self.breaker, clock=self.clock, pump=self.pumped.set)
        for number in range(60):
            self.breaker.record(number % 20, UNREACHABLE, self.clock.monotonic())
            self.clock.advance(0.2)
        assert self.breaker.state is BreakerState.OPEN
        self.clock.advance(60.0)

    def state(self) -> BreakerState:
        return self.breaker.state

    def delivery(self, offset: int) -> Delivery:
        return Delivery(0, StoredRecord("topic", 0, offset, 0, None, b"", ()))


async def test_a_reply_on_its_way_is_no_probe() -> None:
    """A reply is sent to another endpoint and says nothing about the subscriber. It passes, and the
    probe is still due.
    """
    gate_harness = GateHarness()
    reply = gate_harness.delivery(1)
    reply.reply = Record(None, b"", record_headers())
    assert gate_harness.gate.enter(reply)
    assert BreakerState.OPEN is gate_harness.state()
    assert gate_harness.gate.enter(gate_harness.delivery(2))
    assert BreakerState.PROBING is gate_harness.state()


async def test_a_record_that_is_no_event_is_no_probe() -> None:
    """The record becomes a dead letter without an attempt, so the result of the probe would never
    be reported.
    """
    gate_harness = GateHarness()
    undeliverable = gate_harness.delivery(1)
    undeliverable.undeliverable = "it has no id"
    assert gate_harness.gate.enter(undeliverable)
    gate_harness.gate.withdraw(undeliverable)
    assert BreakerState.OPEN is gate_harness.state()


async def test_replies_take_no_places_of_a_breaker_that_reopens() -> None:
    """Two attempts are allowed after a successful probe, regardless of requests to other
    endpoints.
    """
    gate_harness = GateHarness()
    probe = gate_harness.delivery(1)
    assert gate_harness.gate.enter(probe)
    gate_harness.gate.answered(probe, ANSWERED)
    for offset in range(2, 7):
        reply = gate_harness.delivery(offset)
        reply.reply = Record(None, b"", record_headers())
        assert gate_harness.gate.enter(reply)
    assert gate_harness.gate.enter(gate_harness.delivery(10))
    assert gate_harness.gate.enter(gate_harness.delivery(11))
    assert not gate_harness.gate.enter(gate_harness.delivery(12))


async def test_an_abandoned_probe_wakes_waiting_lanes() -> None:
    """The lane that was refused meanwhile is a different one from the lane that lost its partition,
    and nothing else would wake it.
    """
    gate_harness = GateHarness()
    probe = gate_harness.delivery(1)
    assert gate_harness.gate.enter(probe)
    assert not gate_harness.gate.enter(gate_harness.delivery(2))
    gate_harness.gate.withdraw(probe)
    await asyncio.wait_for(gate_harness.pumped.wait(), 1.0)
    assert gate_harness.gate.enter(gate_harness.delivery(2))


async def trip(harness: DispatcherHarness) -> None:
    """Open the breaker of the only worker."""
    gate = harness.workers[0]._gate
    for number in range(60):
        gate.breaker.record(number % 20, UNREACHABLE, harness.clock.monotonic())
        harness.clock.ahead += 0.2
    assert gate.breaker.state is BreakerState.OPEN


async def test_a_subscription_recovers_when_a_reply_was_due_during_the_outage() -> None:
    """The reply is delivered, then the probe is sent, and then the events that waited."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(reply=Reply(url=REPLY))
        await trip(harness)
        await harness.store(
            RETRY,
            Record(
                None,
                b"{}",
                retry_headers(reply=b'{"specversion":"1.0","id":"r","source":"s","type":"t"}'),
            ),
        )
        worker.on_retry_stored()
        harness.clock.ahead += 60.0
        await wait_until_async(lambda: harness.requests(REPLY) == 1, what="the reply is delivered")
        await harness.publish("a", "b", "c")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 3, what="the events are delivered"
        )
        assert harness.requests(SUBSCRIBER) == 3


async def test_a_subscription_recovers_when_garbage_came_during_the_outage() -> None:
    """The record that is not an event becomes a dead letter, and probing continues."""
    async with dispatcher_harness() as harness:
        harness.start_worker()
        await trip(harness)
        harness.clock.ahead += 60.0
        await harness.store(CHANNEL, Record(None, b"garbage", ()))
        await harness.publish("a", "b")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 3, what="the events are delivered"
        )
        assert harness.requests(SUBSCRIBER) == 2
