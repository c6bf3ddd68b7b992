"""What many subscriptions cost: requests to the backend and writes to the store."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pytest

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.domain.errors import LogUnavailable
from headrace.resources.conditions import READY, condition_of
from headrace.resources.control_ports import ClusterDescription, TopicDescription, TopicSpec
from headrace.resources.kinds import TRIGGER
from headrace.resources.ownership_record import OwnershipRecord
from headrace_controller.plan_executor import step_object
from headrace_controller.reconcile.plan import SaveOwnershipRecord, SetStatus
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, settled, trigger

MANY = 40


class CountingAdmin(MemoryTopicAdmin):
    """An admin that counts its requests, by name. It may not read the end of one topic."""

    def __init__(self, unreadable: str = "") -> None:
        super().__init__(brokers=3)
        self.requests: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        """By group, how often its offsets were read."""
        self.described_with_settings: list[str] = []
        self.hidden: frozenset[str] = frozenset()
        """Topics that the broker that describes them does not know yet."""
        self.created: list[str] = []
        self.unreadable = unreadable

    async def cluster(self) -> ClusterDescription:
        """Count it."""
        self.requests["cluster"] += 1
        return await super().cluster()

    async def describe(
        self, topics: Collection[str], *, settings: bool = True
    ) -> Mapping[str, TopicDescription]:
        """Count it."""
        self.requests["describe"] += 1
        self.described_with_settings += [each for each in topics if settings]
        return await super().describe(set(topics) - self.hidden, settings=settings)

    async def create(self, topics: Sequence[TopicSpec]) -> Mapping[str, str]:
        """Count it."""
        self.requests["create"] += 1
        self.created += [each.name for each in topics]
        return await super().create(topics)

    async def ends(self, topics: Mapping[str, Collection[int]]) -> Mapping[str, Mapping[int, int]]:
        """Count it."""
        self.requests["ends"] += 1
        if self.unreadable in topics:
            raise LogUnavailable(f"topic {self.unreadable} has no leader")
        return await super().ends(topics)

    async def committed(self, groups: Mapping[str, str]) -> Mapping[str, Mapping[int, int]]:
        """Count it."""
        self.requests["committed"] += 1
        self.asked.update(list(groups))
        return await super().committed(groups)


@pytest.mark.parametrize("count", [1, MANY])
async def test_the_number_of_requests_does_not_grow_with_the_triggers(count: int) -> None:
    """Topics and groups are in common requests. Offsets are read when the topics of the
    subscription exist, before and after the commit.
    """
    admin = CountingAdmin()
    harness = await settled(broker(), admin=admin)
    admin.requests.clear()
    await harness.apply(*(trigger(f"t{number}") for number in range(count)))
    await harness.settle()
    for number in range(count):
        assert ("True", "") == harness.condition(TRIGGER, f"t{number}")
    # Topics are described when they are claimed, and when they were created.
    assert {"describe": 2, "create": 1, "committed": 2, "ends": 1} == admin.requests
    assert {2} == set(admin.asked.values())


async def test_the_settings_of_new_topics_are_not_read_at_once() -> None:
    """They are as requested. Reading them costs Kafka as much as half of the creation, so it waits
    for the next time that all topics are described. Those of a channel have defaults of Kafka that
    its readers must know.
    """
    admin = CountingAdmin()
    harness = await settled(broker(), admin=admin)
    channel = f"knative-broker-{NAMESPACE}-default"
    assert 2 == admin.described_with_settings.count(channel)
    await harness.apply(trigger())
    await harness.settle()
    retries = f"knative-trigger-{NAMESPACE}-orders.retry"
    assert 1 == admin.described_with_settings.count(retries)
    admin.topics[retries] = replace(admin.topics[retries], settings={"retention.ms": "1"})
    await harness.resync()
    assert "-1" == admin.topics[retries].settings["retention.ms"]


async def test_topics_that_are_not_described_yet_are_not_created_again() -> None:
    """A broker that creates many topics describes the last of them seconds later. Until then there
    is nothing to do; after 10 s they are created again.
    """
    admin = CountingAdmin()
    harness = await settled(broker(), admin=admin)
    names = [f"knative-trigger-{NAMESPACE}-orders.{each}" for each in ("retry", "dead")]
    admin.hidden = frozenset(names)
    admin.created.clear()
    await harness.apply(trigger())
    await harness.settle()
    plan = await harness.run_once()
    assert () == plan.steps
    assert any("is being created" in each for each in plan.waiting_for)
    assert sorted(names) == sorted(admin.created)
    harness.clock.advance(10.5)
    await harness.report()
    await harness.run_once()
    assert sorted(2 * names) == sorted(admin.created)
    admin.hidden = frozenset()
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders")
    assert sorted(2 * names) == sorted(admin.created)


async def test_a_status_that_the_next_iteration_changes_is_not_written() -> None:
    """A Trigger has a status when it is seen, and when it is Ready. What is between them takes six
    iterations.
    """
    harness = await settled(broker())
    await harness.apply(trigger())
    found = await harness.settle()
    statuses = [each.status for each in found if isinstance(each, SetStatus)]
    assert ["Unknown", "True"] == [
        str(ready.status)
        for status in statuses
        if (ready := condition_of(status, READY)) is not None
    ]


async def test_a_status_is_written_while_a_step_is_held_up() -> None:
    """A step that fails again and again must not keep the reason from the user."""
    harness = await settled(broker())
    await harness.apply(trigger())
    await harness.run_once()
    uid = next(each.uid for each in harness.store.list(TRIGGER))
    refused = OwnershipRecord(
        uid=uid, kind="Trigger", namespace=NAMESPACE, name="orders", topics=()
    )
    step, about = SaveOwnershipRecord(refused), step_object(SaveOwnershipRecord(refused))
    resource = harness.store.get(TRIGGER, NAMESPACE, "orders")
    interim = SetStatus(resource, {"conditions": []}, interim=True)
    executor = harness.loop.executor
    assert [step] == executor.executable([step, interim])
    executor._failed_steps.update([about], {about: "it is too large"})
    assert [interim] == executor.executable([step, interim])


async def test_a_topic_whose_end_is_unknown_holds_up_its_subscriptions_only() -> None:
    """The others are committed."""
    admin = CountingAdmin(unreadable=f"knative-broker-{NAMESPACE}-broken")
    harness = ControllerHarness(admin=admin)
    await harness.restart()
    names = ("broken", "whole")
    await harness.apply(*(broker(name) for name in names))
    await harness.apply(*(trigger(f"t-{name}", broker_name=name) for name in names))
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "t-whole")
    assert "has no leader" in harness.message(TRIGGER, "t-broken", "SubscriptionReady")
    admin.unreadable = ""
    harness.clock.advance(2.0)
    await harness.report()
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "t-broken")
