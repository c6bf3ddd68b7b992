"""The loop: it acts only as the writer, begins every term anew, rests when there is nothing to do, and survives what Kafka does."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.errors import LogUnavailable, Permanent
from headrace.resources.control_ports import ClusterFacts, TopicFacts
from headrace.resources.holding import HeldTopic, Holding, Role, Stage, holding_resource
from headrace.resources.kinds import BROKER, TRIGGER
from headrace.resources.resource import Resource
from headrace_controller.trim import Trimmer
from tests.support.waiting import wait_until_async
from tests.unit.controller.site import NAMESPACE, Site, broker, trigger


async def test_a_standby_does_nothing_until_it_writes() -> None:
    """Its loop begins to act when its store does, with the world as it is then."""
    site = Site()
    first = MemoryResourceStore(site.resources, clock=site.clock)
    await site.restart()
    site.resources.waiting.clear()
    await site.store.stop()
    await first.start()
    await site.store.start()
    await site.loop.start()
    await asyncio.sleep(0)
    assert {} == site.admin.topics
    await first.stop()
    await wait_until_async(lambda: len(site.admin.topics) == 4, 5, "the new writer to act")
    await site.loop.stop()


async def test_a_running_loop_answers_to_changes_and_then_rests() -> None:
    """Brokers and Triggers become Ready by themselves; after that no turn acts."""
    site = Site()
    await site.restart()
    await site.loop.start()
    site.applies = True
    await site.apply(broker(), trigger())

    def ready() -> bool:
        return ("True", "") == site.condition(BROKER, "default") and ("True", "") == site.condition(TRIGGER, "orders")

    async with asyncio.timeout(10):
        while not ready():
            await site.report()
            await asyncio.sleep(0.01)
    await wait_until_async(lambda: site.loop.converged, 5, "the loop to rest")
    await site.loop.stop()


async def test_a_resting_loop_notices_who_comes_and_goes() -> None:
    """A dispatcher that leaves makes its Triggers unready within seconds, not at the next full look."""
    site = Site()
    await site.restart()
    await site.apply(broker(), trigger())
    await site.settle()
    await site.loop.start()
    await wait_until_async(lambda: site.loop.converged, 5, "the loop to rest")
    await site.instances.leave("dispatcher")
    wanted = ("False", "NoDispatcher")
    await wait_until_async(lambda: wanted == site.condition(TRIGGER, "orders", "SubscriptionReady"), 5, "the absence to show")
    await site.loop.stop()


class FlakyAdmin(MemoryTopicAdmin):
    """An admin whose Kafka is away at first."""

    failures = 3

    async def cluster(self) -> ClusterFacts:
        """Fail a few times."""
        self._fail()
        return await super().cluster()

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicFacts]:
        """Fail a few times."""
        self._fail()
        return await super().describe(topics)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("Kafka is away")


async def test_kafka_being_away_is_waited_for() -> None:
    """The loop tries again and gets there."""
    site = Site(admin=FlakyAdmin(brokers=3))
    await site.restart()
    await site.loop.start()
    await wait_until_async(lambda: len(site.admin.topics) == 4, 10, "the delay topics to be made")
    assert site.loop.errors >= 1
    await site.loop.stop()


class CountingAdmin(MemoryTopicAdmin):
    """An admin that remembers what was trimmed."""

    def __init__(self) -> None:
        super().__init__()
        self.trimmed: list[tuple[str, dict[int, int]]] = []

    async def trim(self, topic: str, before: Mapping[int, int]) -> None:
        """Remember it."""
        self.trimmed.append((topic, dict(before)))


async def test_only_what_was_committed_is_trimmed() -> None:
    """Retry and delay topics, up to their groups' offsets, once; dead letters and channels never."""
    admin = CountingAdmin()
    site = Site(admin=admin)
    await site.restart()
    topics = tuple(HeldTopic(name=f"g.{role}", role=role, stage=Stage.MADE) for role in (Role.RETRY, Role.DEAD))
    holding = Holding(uid="u", kind="Trigger", namespace="n", name="t", group="g", topics=topics)
    await site.store.create(holding_resource(holding))
    site.group("g.retry").offsets["g.retry"] = {0: 7}
    trimmer = Trimmer(store=site.store, admin=admin)
    await trimmer.trim()
    await trimmer.trim()
    assert [("g.retry", {0: 7})] == admin.trimmed


class _Choosy(MemoryResourceStore):
    """Refuses the status of one object, as an API server may whose schema says otherwise."""

    refuses = ""

    async def replace_status(self, resource: Resource) -> Resource:
        """Refuse, or store."""
        if resource.name == self.refuses:
            raise Permanent("status.address: Invalid value")
        return await super().replace_status(resource)


async def test_an_object_that_the_store_refuses_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its step is tried again later, with growing pauses; everything else becomes Ready, and the loop rests meanwhile."""
    monkeypatch.setattr("tests.unit.controller.site.MemoryResourceStore", _Choosy)
    monkeypatch.setattr(_Choosy, "refuses", "bad")
    site = Site()
    await site.restart()
    await site.apply(broker(), broker("bad"), trigger())
    await site.settle()
    assert ("True", "") == site.condition(BROKER, "default")
    assert ("True", "") == site.condition(TRIGGER, "orders")
    assert {} == site.status(BROKER, "bad")
    assert "Invalid value" in site.loop.performer.refusals[f"Broker {NAMESPACE}/bad"].message
    monkeypatch.setattr(_Choosy, "refuses", "")
    site.clock.advance(60.0)
    await site.settle()
    assert ("True", "") == site.condition(BROKER, "bad")
    assert {} == site.loop.performer.refusals
