"""The loop: it acts only as the leader, drops its memory at the start of a term, rests when there
is nothing to do, and tolerates failures of Kafka.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import pytest
from structlog.testing import capture_logs

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.errors import LogUnavailable, Permanent, WriteRefused
from headrace.resources.control_ports import ClusterDescription, TopicDescription
from headrace.resources.kinds import BROKER, TRIGGER
from headrace.resources.ownership_record import (
    OwnedTopic,
    OwnershipRecord,
    TopicRole,
    TopicStage,
    ownership_record_resource,
)
from headrace.resources.resource import Resource
from headrace_controller.topic_purge import TopicPurger
from tests.support.wait_until import wait_until_async
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, trigger


async def test_a_standby_does_nothing_until_it_writes() -> None:
    """Its loop begins to act when its store does, with the state as it is then."""
    harness = ControllerHarness()
    first = MemoryResourceStore(harness.resources, clock=harness.clock)
    await harness.restart()
    harness.resources.waiting.clear()
    await harness.store.stop()
    await first.start()
    await harness.store.start()
    await harness.loop.start()
    await asyncio.sleep(0)
    assert {} == harness.admin.topics
    await first.stop()
    await wait_until_async(lambda: len(harness.admin.topics) == 4, 5, "the new writer to act")
    await harness.loop.stop()


async def test_a_running_loop_answers_to_changes_and_then_rests() -> None:
    """Brokers and Triggers become Ready by themselves; after that no turn acts."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.loop.start()
    harness.applies = True
    await harness.apply(broker(), trigger())

    def ready() -> bool:
        return ("True", "") == harness.condition(BROKER, "default") and (
            "True",
            "",
        ) == harness.condition(TRIGGER, "orders")

    async with asyncio.timeout(10):
        while not ready():
            await harness.report()
            await asyncio.sleep(0.01)
    await wait_until_async(lambda: harness.loop.converged, 5, "the loop to rest")
    await harness.loop.stop()


async def test_a_resting_loop_notices_who_comes_and_goes() -> None:
    """A dispatcher that leaves makes its Triggers unready within seconds, not at the next full
    look.
    """
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.loop.start()
    await wait_until_async(lambda: harness.loop.converged, 5, "the loop to rest")
    await harness.instances.deregister("dispatcher")
    wanted = ("False", "NoDispatcher")
    await wait_until_async(
        lambda: wanted == harness.condition(TRIGGER, "orders", "SubscriptionReady"),
        5,
        "the absence to show",
    )
    await harness.loop.stop()


class FlakyAdmin(MemoryTopicAdmin):
    """An admin whose Kafka is away at first."""

    failures = 3

    async def cluster(self) -> ClusterDescription:
        """Fail a few times."""
        self._fail()
        return await super().cluster()

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """Fail a few times."""
        self._fail()
        return await super().describe(topics, settings=settings)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("Kafka is away")


async def test_kafka_being_away_is_waited_for() -> None:
    """The loop tries again and gets there."""
    harness = ControllerHarness(admin=FlakyAdmin(brokers=3))
    await harness.restart()
    await harness.loop.start()
    await wait_until_async(
        lambda: len(harness.admin.topics) == 4, 10, "the delay topics to be made"
    )
    assert harness.loop.errors >= 1
    await harness.loop.stop()


class SlowAdmin(MemoryTopicAdmin):
    """An admin that takes its time, in which a client may write Triggers."""

    def __init__(self, clock: MemoryClock, seconds: float) -> None:
        super().__init__(brokers=3)
        self._clock = clock
        self._seconds = seconds
        self.write: Callable[[], Awaitable[None]] | None = None

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """Take the time."""
        self._clock.advance(self._seconds)
        if self.write is not None:
            await self.write()
        return await super().describe(topics, settings=settings)


async def test_the_loop_leaves_time_while_resources_are_written() -> None:
    """It pauses after a few iterations, so that writes do not wait for many of them."""
    clock = MemoryClock()
    admin = SlowAdmin(clock, 0.05)
    harness = ControllerHarness(clock=clock, admin=admin)
    await harness.restart()
    await harness.apply(broker())
    await harness.settle()
    seen: set[int] = set()

    async def write() -> None:
        """Once in an iteration."""
        turn = harness.loop.turns
        if turn not in seen and len(seen) < 8:
            await harness.apply(trigger(f"t{len(seen)}"))
            seen.add(turn)

    admin.write = write
    await harness.apply(trigger("first"))
    began = time.monotonic()
    await harness.loop.start()
    await wait_until_async(
        lambda: harness.find(TRIGGER, "t7") is not None, 10, "the Triggers to be written"
    )
    await harness.loop.stop()
    assert time.monotonic() - began >= 0.1


async def test_the_pause_ends_when_clients_write_no_longer() -> None:
    """The last Trigger of many does not wait for the longest pause."""
    clock = MemoryClock()
    admin = SlowAdmin(clock, 3.0)
    harness = ControllerHarness(clock=clock, admin=admin)
    await harness.restart()
    await harness.apply(broker())
    await harness.settle()
    left = iter(range(1))

    async def write() -> None:
        if next(left, None) is not None:
            await harness.apply(trigger("last"))

    admin.write = write
    await harness.loop.start()
    await harness.apply(trigger("first"))
    async with asyncio.timeout(4):
        while ("True", "") != harness.condition(TRIGGER, "first"):
            await harness.report()
            await asyncio.sleep(0.01)
    await harness.loop.stop()


async def test_the_loop_does_not_rest_after_its_own_writes() -> None:
    """However long an iteration takes."""
    clock = MemoryClock()
    harness = ControllerHarness(clock=clock, admin=SlowAdmin(clock, 3.0))
    await harness.restart()
    await harness.apply(broker(), trigger())
    await harness.loop.start()
    async with asyncio.timeout(5):
        while ("True", "") != harness.condition(TRIGGER, "orders"):
            await harness.report()
            await asyncio.sleep(0.01)
    await harness.loop.stop()


class CountingAdmin(MemoryTopicAdmin):
    """An admin that remembers what was trimmed, and may not trim one topic."""

    def __init__(self, refused: str = "") -> None:
        super().__init__()
        self.trimmed: list[tuple[str, dict[int, int]]] = []
        self._refused = refused

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Remember it."""
        if topic == self._refused:
            raise WriteRefused(f"topic {topic}: no permission")
        self.trimmed.append((topic, dict(before)))


async def test_only_what_was_committed_is_trimmed() -> None:
    """Retry and delay topics, up to their groups' offsets, once; dead letters and channels
    never.
    """
    admin = CountingAdmin()
    harness = ControllerHarness(admin=admin)
    await harness.restart()
    topics = tuple(
        OwnedTopic(name=f"g.{role}", role=role, stage=TopicStage.CREATED)
        for role in (TopicRole.RETRY, TopicRole.DEAD)
    )
    ownership = OwnershipRecord(
        uid="u", kind="Trigger", namespace="n", name="t", group="g", topics=topics
    )
    await harness.store.create(ownership_record_resource(ownership))
    harness.group("g.retry").offsets["g.retry"] = {0: 7}
    trimmer = TopicPurger(store=harness.store, admins={"kafka": admin})
    await trimmer.delete_records()
    await trimmer.delete_records()
    assert [("g.retry", {0: 7})] == admin.trimmed


async def test_a_topic_that_may_not_be_trimmed_holds_up_no_other() -> None:
    """It is reported, and tried again with the others."""
    admin = CountingAdmin(refused="first.retry")
    harness = ControllerHarness(admin=admin)
    await harness.restart()
    for group in ("first", "second"):
        topics = (
            OwnedTopic(name=f"{group}.retry", role=TopicRole.RETRY, stage=TopicStage.CREATED),
        )
        ownership = OwnershipRecord(
            uid=group, kind="Trigger", namespace="n", name=group, group=group, topics=topics
        )
        await harness.store.create(ownership_record_resource(ownership))
        harness.group(f"{group}.retry").offsets[f"{group}.retry"] = {0: 7}
    trimmer = TopicPurger(store=harness.store, admins={"kafka": admin})
    with capture_logs() as logs:
        await trimmer.delete_records()
    assert [("second.retry", {0: 7})] == admin.trimmed
    [line] = [each for each in logs if each["event"] == "purge_failed"]
    assert (line["topics"], line["error"]) == (1, "topic first.retry: no permission")


class _Choosy(MemoryResourceStore):
    """Refuses the status of one object, as an API server may whose schema says otherwise."""

    refuses = ""

    async def replace_status(self, resource: Resource) -> Resource:
        """Refuse, or store."""
        if resource.name == self.refuses:
            raise Permanent("status.address: Invalid value")
        return await super().replace_status(resource)


async def test_an_object_that_the_store_refuses_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its step is tried again later, with growing pauses; everything else becomes Ready, and the
    loop rests meanwhile.
    """
    monkeypatch.setattr("tests.unit.controller.harness.MemoryResourceStore", _Choosy)
    monkeypatch.setattr(_Choosy, "refuses", "bad")
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), broker("bad"), trigger())
    await harness.settle()
    assert ("True", "") == harness.condition(BROKER, "default")
    assert ("True", "") == harness.condition(TRIGGER, "orders")
    assert {} == harness.status(BROKER, "bad")
    about = f"Broker.eventing.knative.dev {NAMESPACE}/bad"
    assert "Invalid value" in harness.loop.executor.failed_steps[about].message
    monkeypatch.setattr(_Choosy, "refuses", "")
    harness.clock.advance(60.0)
    await harness.settle()
    assert ("True", "") == harness.condition(BROKER, "bad")
    assert {} == harness.loop.executor.failed_steps
