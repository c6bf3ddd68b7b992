"""The control topics: made when missing, verified when there, never used when they could lose or
reorder records.
"""

import asyncio

import pytest

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.domain.control_topics import CONTROL_TOPICS
from headrace.domain.errors import LogUnavailable, Permanent
from headrace.resources.control_ports import ClusterDescription, TopicSpec
from headrace_controller.control_topics import ControlTopics
from tests.support.wait_until import wait_until_async


async def test_missing_control_topics_are_made() -> None:
    """Compacted, one partition, segments short enough for compaction to keep up; a second start
    changes nothing.
    """
    admin = MemoryTopicAdmin(brokers=3)
    await ControlTopics(admin).start()
    assert set(CONTROL_TOPICS) == set(admin.topics)
    facts = admin.topics["headrace.resources"]
    assert (1, 3, "compact", "600000") == (
        facts.partitions,
        facts.replication,
        facts.settings["cleanup.policy"],
        facts.settings["segment.ms"],
    )
    before = dict(admin.topics)
    await ControlTopics(admin).start()
    assert before == admin.topics


async def test_the_start_waits_for_kafka_and_says_so() -> None:
    """It continues when the cluster answers; until then `not_ready` says what it waits for."""

    class Away(MemoryTopicAdmin):
        away = True

        async def cluster(self) -> ClusterDescription:
            if self.away:
                self.away = False
                raise LogUnavailable("the cluster: no answer from x:1")
            return await super().cluster()

    topics = ControlTopics(admin := Away())
    starting = asyncio.create_task(topics.start())
    await wait_until_async(topics.not_ready, what="the reason")
    assert topics.not_ready() == "Kafka cannot be used yet: the cluster: no answer from x:1"
    await starting
    assert topics.not_ready() is None
    assert set(CONTROL_TOPICS) == set(admin.topics)


@pytest.mark.parametrize(
    ("partitions", "policy", "message"),
    [
        (3, "compact", "has 3 partitions instead of 1"),
        (1, "delete", "cleanup.policy=delete and would lose records; set it to compact"),
    ],
)
async def test_a_control_topic_that_cannot_be_used_stops_the_start(
    partitions: int, policy: str, message: str
) -> None:
    """The error names the topic, what is wrong and what to do."""
    admin = MemoryTopicAdmin()
    await admin.create(
        [
            TopicSpec(
                name="headrace.routing",
                partitions=partitions,
                replication=1,
                settings={"cleanup.policy": policy},
            )
        ]
    )
    with pytest.raises(Permanent, match=r"topic headrace\.routing") as raised:
        await ControlTopics(admin).start()
    assert message in str(raised.value)


async def test_a_refused_control_topic_says_which_right_is_missing() -> None:
    """Kafka's words, and the way on."""
    admin = MemoryTopicAdmin(brokers=0)
    with pytest.raises(Permanent, match="the control topics cannot be created"):
        await ControlTopics(admin).start()
