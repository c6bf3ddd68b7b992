"""The topics everything else stands on: made before the store and the routing table can be read."""

import asyncio
from collections.abc import Sequence

from headrace.domain.control_topics import CONTROL_TOPICS
from headrace.domain.errors import Permanent, Temporary
from headrace.resources.control_ports import TopicAdmin, TopicDescription, TopicSpec
from headrace.runtime.retry import retry_until_success
from headrace_controller.reconcile.topic_specs import control_topic_specs

_SETTLE_TURNS = 50
_SETTLE_SECONDS = 0.1


class ControlTopics:
    """A part of a service: makes sure of the control topics, waiting for Kafka if need be."""

    def __init__(self, admin: TopicAdmin, names: Sequence[str] = CONTROL_TOPICS) -> None:
        self._admin = admin
        self._names = tuple(names)
        self._waiting: str | None = None

    def not_ready(self) -> str | None:
        """Why the topics cannot be made sure of yet, None when nothing stands in the way."""
        return self._waiting

    async def start(self) -> None:
        """Make what is missing, verify what is there. Raises Permanent when a topic is there and
        cannot be used.
        """
        await retry_until_success(self._ensure, waiting=self._wait, retry_on=Temporary)
        self._waiting = None

    def _wait(self, reason: str) -> None:
        self._waiting = reason

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def _ensure(self) -> None:
        cluster = await self._admin.cluster()
        specs = control_topic_specs(self._names, brokers=cluster.brokers)
        found = await self._admin.describe(self._names)
        refused = await self._admin.create([spec for spec in specs if spec.name not in found])
        if refused:
            told = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise Permanent(
                f"the control topics cannot be made: {told}. Give this controller the right to"
                " create topics, or make them"
            )
        for _ in range(_SETTLE_TURNS):
            found = await self._admin.describe(self._names)
            if len(found) == len(self._names):
                break
            # Another broker than the one that made them answers; metadata follows in a moment.
            await asyncio.sleep(_SETTLE_SECONDS)
        for spec in specs:
            verify(spec, found.get(spec.name))


def verify(spec: TopicSpec, facts: TopicDescription | None) -> None:
    """Raise Permanent unless the topic can hold records that must never expire and have one
    order.
    """
    if facts is None:
        raise Permanent(f"topic {spec.name} was made but cannot be seen; look at the brokers' logs")
    if facts.partitions != spec.partitions:
        told = f"topic {spec.name} has {facts.partitions} partitions instead of 1"
        raise Permanent(
            f"{told}; its records have no order. Delete it if it is not in use, or choose another"
            " Kafka"
        )
    policy = facts.settings.get("cleanup.policy", "compact")
    if policy != "compact":
        raise Permanent(
            f"topic {spec.name} has cleanup.policy={policy} and would forget records; set it to"
            " compact"
        )
