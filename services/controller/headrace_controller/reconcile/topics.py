"""Topics of an owner: made when they may be, verified always, never taken on trust.

| stage of the name | topic in Kafka | what follows |
|---|---|---|
| claimed | absent | the intent is recorded |
| claimed | present | `TopicNotOwned`, unless the owner says to adopt it |
| intended | absent | it is made |
| intended | present | ours: recorded with Kafka's id |
| made | absent | `TopicLost`: what was in it is gone; made again only when the owner accepts that |
| made | another id | `TopicReplaced`: somebody removed and made it; as above |
| made | same id | settings are brought back to what they should be, missing partitions added |
| external | absent | `TopicNotPresent` |
| external | present | used as it is |

A lost topic is not silently made anew: an empty topic under the old name would look healthy while acknowledged events are gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headrace.resources.control_ports import TopicFacts, TopicSpec
from headrace.resources.holding import HeldTopic, Stage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.plan import AddPartitions, AlterTopic, CreateTopic, Step
from headrace_controller.reconcile.world import LOST_ANNOTATION, TOPICS_ANNOTATION, Refusal, World


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a topic cannot be used, as a condition's reason and message. `waiting` ones pass by themselves."""

    reason: str
    message: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be done about one topic: a changed record of it, a step, a problem; or none of these, and it can be used."""

    held: HeldTopic
    step: Step | None = None
    problem: Problem | None = None
    facts: TopicFacts | None = None
    note: str = ""
    """Something worth showing that does not stand in the way."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the owner allows beyond the usual."""

    adopt: bool = False
    recreate: bool = False


def permissions_of(owner: Resource) -> Permissions:
    """Read the owner's annotations."""
    return Permissions(
        adopt=owner.annotations.get(TOPICS_ANNOTATION) == "adopt",
        recreate=owner.annotations.get(LOST_ANNOTATION) == "recreate",
    )


def examine(world: World, held: HeldTopic, wanted: TopicSpec, permissions: Permissions) -> Finding:
    """Decide about one topic by the table above."""
    facts = world.topics.get(held.name)
    if facts is None:
        return _absent(world, held, wanted, permissions)
    match held.stage:
        case Stage.EXTERNAL:
            return Finding(held, facts=facts)
        case Stage.CLAIMED if not permissions.adopt:
            text = (
                f"topic {held.name} exists already and was not made for this resource; delete it, set annotation "
                f"{TOPICS_ANNOTATION}: adopt here to take it over, or (a Broker) name it as kafka.eventing.knative.dev/external.topic"
            )
            return Finding(held, problem=Problem("TopicNotOwned", text), facts=facts)
        case Stage.MADE if held.id and facts.id and held.id != facts.id and not permissions.recreate:
            text = f"topic {held.name} was deleted and made again by somebody else; the events in the first one are gone. " + _remedy()
            return Finding(held, problem=Problem("TopicReplaced", text), facts=facts)
    seen = replace(held, stage=Stage.MADE, id=facts.id or held.id)
    return replace(_verified(world, seen, facts, wanted), held=seen)


def _absent(world: World, held: HeldTopic, wanted: TopicSpec, permissions: Permissions) -> Finding:
    match held.stage:
        case Stage.EXTERNAL:
            return Finding(
                held, problem=Problem("TopicNotPresent", f"external topic {held.name} does not exist; somebody else must make it")
            )
        case Stage.MADE if not permissions.recreate:
            text = f"topic {held.name} was deleted by somebody else; the events in it are gone. " + _remedy()
            return Finding(held, problem=Problem("TopicLost", text))
        case Stage.INTENDED:
            refusal = world.refusals.get(held.name)
            problem = (
                Problem("TopicCreationFailed", f"topic {held.name}: {refusal.message}")
                if refusal
                else Problem("TopicCreating", f"topic {held.name} is being made", waiting=True)
            )
            return Finding(held, step=None if world.blocked(held.name) else CreateTopic(wanted), problem=problem)
        case _:
            intended = replace(held, stage=Stage.INTENDED, id="")
            return Finding(intended, problem=Problem("TopicCreating", f"topic {held.name} is about to be made", waiting=True))


def _remedy() -> str:
    return f"Delete this resource and create it again, or set annotation {LOST_ANNOTATION}: recreate here to go on with an empty topic"


def _verified(world: World, held: HeldTopic, facts: TopicFacts, wanted: TopicSpec) -> Finding:
    blocked, refusal = world.blocked(held.name), world.refusals.get(held.name)
    drifted = drift(facts.settings, wanted.settings)
    if drifted:
        told = f"topic {held.name} needs {', '.join(f'{key}={value}' for key, value in sorted(drifted.items()))}"
        problem = Problem("TopicSettings", _with_refusal(told, refusal), waiting=refusal is None)
        return Finding(held, step=None if blocked else AlterTopic(held.name, drifted), problem=problem)
    if facts.partitions < wanted.partitions:
        told = f"topic {held.name} has {facts.partitions} partitions, {wanted.partitions} are wanted"
        step = None if blocked else AddPartitions(held.name, wanted.partitions)
        return Finding(held, step=step, facts=facts, note=_with_refusal(told, refusal))
    note = ""
    if facts.partitions > wanted.partitions:
        note = f"topic {held.name} has {facts.partitions} partitions, {wanted.partitions} are wanted; Kafka cannot take any away"
    return Finding(held, facts=facts, note=note)


def drift(actual: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Wanted settings that differ from the actual ones. What Kafka does not report (an embedded one reports nothing) does not differ."""
    return {key: value for key, value in wanted.items() if key in actual and actual[key] != value}


def _with_refusal(told: str, refusal: Refusal | None) -> str:
    return f"{told}; Kafka refused: {refusal.message}" if refusal else told
