"""The order in which lanes send. It is measured in requests and rounds, never in time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from headrace.domain.record import Partition, Record
from headrace.domain.routing import Destination
from headrace_dispatcher.fair_scheduler import ROUND_REQUESTS, STALL_SECONDS, FairScheduler
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import CHANNEL, SUBSCRIBER, dispatcher_harness

OTHER, OTHER_SUBSCRIBER = "other", "http://other.test/"
DRAINS = 20


@dataclass
class CountedLane:
    """A lane with a number of requests to send, each of which it records in a list that the lanes
    share.
    """

    name: str
    ready: int
    requests: list[str]
    queued: bool = False
    asked: list[int] = field(default_factory=list)
    under_way: int = 0

    @property
    def idle(self) -> bool:
        return not self.under_way

    def send(self, requests_max: int) -> int:
        self.asked.append(requests_max)
        sent = min(requests_max, self.ready)
        self.ready -= sent
        self.under_way += sent
        self.requests.extend([self.name] * sent)
        return sent


async def test_a_lane_that_waits_alone_sends_at_once() -> None:
    """Its event does not wait for the next round."""
    requests: list[str] = []
    FairScheduler().schedule(CountedLane("a", 1, requests))
    assert ["a"] == requests


@pytest.mark.parametrize("waiting", [0, 5])
async def test_a_stall_is_reported_before_anything_is_sent(waiting: int) -> None:
    """After it was stopped and continued, the process may hold partitions that another process owns
    now. This holds for lanes that wait for their turn and for lanes that request one.
    """
    requests: list[str] = []
    scheduler, lane = (
        FairScheduler(round_requests=1, turn_requests=1),
        CountedLane("a", 1 + waiting, requests),
    )
    calls: list[int] = []

    def on_stall() -> None:
        calls.append(len(requests))
        lane.ready = 0  # like a lane whose membership is unconfirmed

    scheduler.watch_for_stalls(on_stall)
    if waiting:
        scheduler.schedule(lane)
    before = len(requests)
    scheduler._ticked_at -= STALL_SECONDS + 1.0  # like after a SIGSTOP
    if not waiting:
        scheduler.schedule(lane)
    await wait_until_async(lambda: calls, 5, "it is notified")
    await asyncio.sleep(0)
    assert [before] == calls
    assert before == len(requests)
    scheduler.close()


async def test_a_lane_that_waited_for_work_is_no_stall() -> None:
    """Time without requests is not a stall, because the loop was running."""
    requests: list[str] = []
    scheduler = FairScheduler()
    calls: list[bool] = []
    scheduler.watch_for_stalls(lambda: calls.append(True))
    scheduler._ticked_at -= STALL_SECONDS - 0.5
    scheduler.schedule(CountedLane("a", 1, requests))
    assert ["a"] == requests
    assert [] == calls
    scheduler.close()


async def test_a_round_has_room_for_so_many_requests() -> None:
    """The rest of a backlog follows in the next rounds, and the loop serves its sockets in
    between.
    """
    requests: list[str] = []
    lane = CountedLane("a", 12, requests)
    scheduler = FairScheduler(round_requests=5, turn_requests=2)
    scheduler.schedule(lane)
    seen = []
    while lane.ready:
        before = len(requests)
        await asyncio.sleep(0)
        seen.append(len(requests) - before)
    assert max(seen) == 5


async def test_lanes_with_a_backlog_take_turns() -> None:
    """Each lane sends a few requests before the next one."""
    requests: list[str] = []
    scheduler = FairScheduler(round_requests=8, turn_requests=2)
    lanes = [CountedLane(name, 4, requests) for name in "abc"]
    for lane in lanes:
        scheduler.schedule(lane)
    await wait_until_async(lambda: len(requests) == 12, what="all are sent")
    assert list("aabbccaabbcc") == requests


async def test_a_lane_with_nothing_on_its_way_goes_first() -> None:
    """A new event of a quiet subscription is sent before lanes that have a backlog continue."""
    requests: list[str] = []
    scheduler = FairScheduler(round_requests=4, turn_requests=2)
    drains = [CountedLane(name, 100, requests) for name in "ab"]
    for lane in drains:
        scheduler.schedule(lane)
    await asyncio.sleep(0)
    before = len(requests)
    scheduler.schedule(CountedLane("fresh", 1, requests))
    await wait_until_async(lambda: "fresh" in requests, what="it is sent")
    assert requests.index("fresh") == before


async def test_a_lane_that_cannot_send_more_is_left_alone_until_it_asks() -> None:
    """Its gate is closed, or nothing is ready. The code that changes this pumps the lane."""
    scheduler = FairScheduler(turn_requests=2)
    lane = CountedLane("a", 3, [])
    scheduler.schedule(lane)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [2, 2] == lane.asked
    assert not lane.queued
    lane.ready = 1
    scheduler.schedule(lane)
    await asyncio.sleep(0)
    assert not lane.ready


async def test_a_busy_lane_sends_once_for_several_answers() -> None:
    """It asks after each answer, and its turn comes when the loop has seen the others."""
    scheduler = FairScheduler()
    lane = CountedLane("a", 1, [])
    scheduler.schedule(lane)
    for _ in range(3):
        lane.ready += 1
        scheduler.schedule(lane)
    assert 3 == lane.ready
    await asyncio.sleep(0)
    assert not lane.ready
    assert 2 == len(lane.asked)


async def test_a_lane_that_asks_while_it_sends_has_its_turn_later() -> None:
    """A result that is reported within `send` pumps the same lane. A lane that always has work
    therefore cannot block the loop.
    """
    requests: list[str] = []
    scheduler = FairScheduler(round_requests=4, turn_requests=2)

    class Greedy(CountedLane):
        def send(self, requests_max: int) -> int:
            sent = super().send(requests_max)
            scheduler.schedule(self)
            return sent

    scheduler.schedule(Greedy("greedy", 100, requests))
    assert ["greedy"] * 2 == requests
    scheduler.schedule(CountedLane("other", 1, requests))
    await wait_until_async(lambda: "other" in requests, what="the other is sent")
    assert requests.index("other") <= 4


async def test_an_event_is_sent_within_a_few_rounds_of_any_number_of_drains() -> None:
    """While twenty subscriptions drain their backlogs, they send at most four rounds of requests
    between the storing of another subscription's event and its request.
    """
    async with dispatcher_harness() as harness:
        for number in range(DRAINS):
            harness.feeds.groups.commit(f"drain-{number}", Partition(CHANNEL, 0), offset=0)
        harness.log.create(OTHER)
        harness.feeds.groups.commit("other", Partition(OTHER, 0), offset=0)
        await harness.publish(*(str(number) for number in range(300)))
        for number in range(DRAINS):
            harness.start_worker(uid=f"drain-{number}", group=f"drain-{number}")
        harness.start_worker(
            uid="other", group="other", topic=OTHER, subscriber=Destination(url=OTHER_SUBSCRIBER)
        )
        await wait_until_async(lambda: harness.requests(SUBSCRIBER) > 500, what="they drain")
        before = len(harness.sender.sent)
        await harness.store(OTHER, Record(None, b"{}", record_headers()))
        await wait_until_async(
            lambda: harness.requests(OTHER_SUBSCRIBER) == 1, what="the event is sent"
        )
        sent = [request.url for request in harness.sender.sent].index(OTHER_SUBSCRIBER)
        assert sent - before <= 4 * ROUND_REQUESTS
        assert len(harness.sender.sent) < DRAINS * 300
