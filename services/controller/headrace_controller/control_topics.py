"""The control topics: created before the store and the routing table can be read."""

import asyncio
from collections.abc import Sequence

from headrace.domain.control_topics import CONTROL_TOPICS
from headrace.domain.errors import Permanent, Temporary
from headrace.resources.control_ports import TopicAdmin, TopicDescription, TopicSpec
from headrace.runtime.retry import retry_until_success
from headrace_controller.topic_backend.topic_specs import control_topic_specs

_SETTLE_ATTEMPTS = 50
_SETTLE_SECONDS = 0.1


class ControlTopics:
    """A component of a service: ensures that the control topics exist; waits for Kafka."""

    def __init__(self, admin: TopicAdmin, names: Sequence[str] = CONTROL_TOPICS) -> None:
        self._admin = admin
        self._names = tuple(names)
        self._waiting: str | None = None

    def not_ready(self) -> str | None:
        """Why the topics are not verified yet; None once they are."""
        return self._waiting

    async def start(self) -> None:
        """Create the missing topics and verify the others. Raises Permanent if a topic cannot be
        created or used.
        """
        await retry_until_success(self._ensure, waiting=self._wait, retry_on=Temporary)
        self._waiting = None

    def _wait(self, reason: str) -> None:
        self._waiting = reason

    async def stop(self) -> None:
        """Nothing to release."""

    async def _ensure(self) -> None:
        cluster = await self._admin.cluster()
        specs = control_topic_specs(self._names, brokers=cluster.brokers)
        found = await self._admin.describe(self._names)
        refused = await self._admin.create([spec for spec in specs if spec.name not in found])
        if refused:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise Permanent(
                f"the control topics cannot be created: {reasons}. Allow this controller to create"
                " topics, or create them"
            )
        for _ in range(_SETTLE_ATTEMPTS):
            found = await self._admin.describe(self._names)
            if len(found) == len(self._names):
                break
            # A broker that does not have the new topics in its metadata yet has answered.
            await asyncio.sleep(_SETTLE_SECONDS)
        for spec in specs:
            verify(spec, found.get(spec.name))


def verify(spec: TopicSpec, facts: TopicDescription | None) -> None:
    """Raise Permanent unless the topic keeps records without limit and in one order."""
    if facts is None:
        raise Permanent(
            f"topic {spec.name} was created but does not appear; look at the brokers' logs"
        )
    if facts.partitions != spec.partitions:
        found = f"topic {spec.name} has {facts.partitions} partitions instead of {spec.partitions}"
        raise Permanent(
            f"{found}; its records have no order. Delete it if it is not in use, or choose another"
            " Kafka"
        )
    policy = facts.settings.get("cleanup.policy", "compact")
    if policy != "compact":
        raise Permanent(
            f"topic {spec.name} has cleanup.policy={policy} and would lose records; set it to"
            " compact"
        )
