"""What a reconcile needs to know of Kafka: topics always, groups only where the next decision hangs on them.

Kafka answers for one group at a time, so a controller that asked about every group at every turn would be slow with a thousand of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.resources.conditions import condition_of
from headrace.resources.holding import Holding, Role
from headrace.resources.trigger import SUBSCRIPTION_READY, broker_name, broker_namespace
from headrace_controller.reconcile.departures import groups_of, readers_of
from headrace_controller.reconcile.triggers import OFFSETS_LOST
from headrace_controller.reconcile.world import World


@dataclass(frozen=True, slots=True)
class GroupQuestions:
    """Groups to ask about: offsets in a topic by group, and states."""

    committed: dict[str, str] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)


def topics_to_describe(holdings: Iterable[Holding]) -> set[str]:
    """Every topic somebody holds or means to."""
    return {topic.name for holding in holdings for topic in holding.topics}


def groups_to_ask(world: World, *, verify: bool) -> GroupQuestions:
    """What to ask about groups, given a world without answers; `verify` asks for all offsets, to find forgotten ones."""
    questions = GroupQuestions()
    brokers = {(each.namespace, each.name): each for each in world.brokers if not each.deleting}
    departing = {each.uid for each in (*world.brokers, *world.triggers) if each.deleting}
    living = {each.uid for each in (*world.brokers, *world.triggers)}
    for holding in world.holdings.values():
        if holding.retired_until is None and (holding.uid in departing or holding.uid not in living):
            questions.states.update(groups_of(holding))
            questions.states.update(reader.group for reader in readers_of(world, holding))
    for trigger in world.triggers:
        held = world.holdings.get(trigger.uid)
        broker = brokers.get((broker_namespace(trigger), broker_name(trigger)))
        channel = world.holdings.get(broker.uid) if broker else None
        topic = channel.topic(Role.CHANNEL) if channel else None
        if held is None or topic is None or not held.group or trigger.deleting:
            continue
        # Once found missing they are asked for until they are there again.
        doubtful = verify or _lost(trigger.status)
        _ask_about(questions, world, held, topic.name, topic.id, verify=doubtful)
    return questions


def _ask_about(questions: GroupQuestions, world: World, held: Holding, topic: str, topic_id: str, *, verify: bool) -> None:
    facts = world.topics.get(topic)
    if facts is None:
        return
    if not held.source:
        questions.committed[held.group] = topic
    elif held.source != f"{topic}@{topic_id or facts.id}":
        questions.states.add(held.group)
    elif verify or held.started < facts.partitions:
        questions.committed[held.group] = topic
        questions.states.add(held.group)


def _lost(status: Mapping[str, Any]) -> bool:
    condition = condition_of(status, SUBSCRIPTION_READY)
    return condition is not None and condition.reason == OFFSETS_LOST
