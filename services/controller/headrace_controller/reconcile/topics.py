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

A lost topic is not silently made anew: an empty topic under the old name would look healthy while
acknowledged events are gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headrace.resources.control_ports import TopicDescription, TopicSpec
from headrace.resources.ownership_record import OwnedTopic, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import (
    LOST_ANNOTATION,
    TOPICS_ANNOTATION,
    ObservedState,
    StepRejection,
)
from headrace_controller.reconcile.plan import AddPartitions, AlterTopic, CreateTopic, Step


@dataclass(frozen=True, slots=True)
class ReconcileProblem:
    """Why a topic cannot be used, as a condition's reason and message. `waiting` ones pass by
    themselves.
    """

    reason: str
    message: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class TopicAssessment:
    """What is to be done about one topic: a changed record of it, a step, a problem; or none of
    these, and it can be used.
    """

    held: OwnedTopic
    step: Step | None = None
    problem: ReconcileProblem | None = None
    facts: TopicDescription | None = None
    note: str = ""
    """Something worth showing that does not stand in the way."""


@dataclass(frozen=True, slots=True)
class TopicPermissions:
    """What the owner allows beyond the usual."""

    adopt: bool = False
    recreate: bool = False


def topic_permissions(owner: Resource) -> TopicPermissions:
    """Read the owner's annotations."""
    return TopicPermissions(
        adopt=owner.annotations.get(TOPICS_ANNOTATION) == "adopt",
        recreate=owner.annotations.get(LOST_ANNOTATION) == "recreate",
    )


def assess_topic(
    observed: ObservedState, held: OwnedTopic, wanted: TopicSpec, permissions: TopicPermissions
) -> TopicAssessment:
    """Decide about one topic by the table above."""
    facts = observed.topics.get(held.name)
    if facts is None:
        return _assess_absent(observed, held, wanted, permissions)
    match held.stage:
        case TopicStage.EXTERNAL:
            return TopicAssessment(held, facts=facts)
        case TopicStage.CLAIMED if not permissions.adopt:
            text = (
                f"topic {held.name} exists already and was not made for this resource; delete it,"
                f" set annotation {TOPICS_ANNOTATION}: adopt here to take it over, or (a Broker)"
                " name it as kafka.eventing.knative.dev/external.topic"
            )
            return TopicAssessment(
                held, problem=ReconcileProblem("TopicNotOwned", text), facts=facts
            )
        case TopicStage.CREATED if (
            held.id and facts.id and held.id != facts.id and not permissions.recreate
        ):
            text = (
                f"topic {held.name} was deleted and made again by somebody else; the events in the"
                " first one are gone. " + _remedy()
            )
            return TopicAssessment(
                held, problem=ReconcileProblem("TopicReplaced", text), facts=facts
            )
    seen = replace(held, stage=TopicStage.CREATED, id=facts.id or held.id)
    return replace(_assess_settings(observed, seen, facts, wanted), held=seen)


def _assess_absent(
    observed: ObservedState, held: OwnedTopic, wanted: TopicSpec, permissions: TopicPermissions
) -> TopicAssessment:
    match held.stage:
        case TopicStage.EXTERNAL:
            return TopicAssessment(
                held,
                problem=ReconcileProblem(
                    "TopicNotPresent",
                    f"external topic {held.name} does not exist; somebody else must make it",
                ),
            )
        case TopicStage.CREATED if not permissions.recreate:
            text = (
                f"topic {held.name} was deleted by somebody else; the events in it are gone. "
                + _remedy()
            )
            return TopicAssessment(held, problem=ReconcileProblem("TopicLost", text))
        case TopicStage.INTENDED:
            rejection = observed.rejections.get(held.name)
            problem = (
                ReconcileProblem("TopicCreationFailed", f"topic {held.name}: {rejection.message}")
                if rejection
                else ReconcileProblem(
                    "TopicCreating", f"topic {held.name} is being made", waiting=True
                )
            )
            return TopicAssessment(
                held,
                step=None if observed.blocked(held.name) else CreateTopic(wanted),
                problem=problem,
            )
        case _:
            intended = replace(held, stage=TopicStage.INTENDED, id="")
            return TopicAssessment(
                intended,
                problem=ReconcileProblem(
                    "TopicCreating", f"topic {held.name} is about to be made", waiting=True
                ),
            )


def _remedy() -> str:
    return (
        f"Delete this resource and create it again, or set annotation {LOST_ANNOTATION}: recreate"
        " here to go on with an empty topic"
    )


def _assess_settings(
    observed: ObservedState, held: OwnedTopic, facts: TopicDescription, wanted: TopicSpec
) -> TopicAssessment:
    blocked, rejection = observed.blocked(held.name), observed.rejections.get(held.name)
    drifted = drift(facts.settings, wanted.settings)
    if drifted:
        told = (
            f"topic {held.name} needs"
            f" {', '.join(f'{key}={value}' for key, value in sorted(drifted.items()))}"
        )
        problem = ReconcileProblem(
            "TopicSettings", _with_rejection(told, rejection), waiting=rejection is None
        )
        return TopicAssessment(
            held, step=None if blocked else AlterTopic(held.name, drifted), problem=problem
        )
    if facts.partitions < wanted.partitions:
        told = (
            f"topic {held.name} has {facts.partitions} partitions, {wanted.partitions} are wanted"
        )
        step = None if blocked else AddPartitions(held.name, wanted.partitions)
        return TopicAssessment(held, step=step, facts=facts, note=_with_rejection(told, rejection))
    note = ""
    if facts.partitions > wanted.partitions:
        note = (
            f"topic {held.name} has {facts.partitions} partitions, {wanted.partitions} are wanted;"
            " Kafka cannot take any away"
        )
    return TopicAssessment(held, facts=facts, note=note)


def drift(actual: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Wanted settings that differ from the actual ones. What Kafka does not report (an embedded one
    reports nothing) does not differ.
    """
    return {key: value for key, value in wanted.items() if key in actual and actual[key] != value}


def _with_rejection(told: str, rejection: StepRejection | None) -> str:
    return f"{told}; Kafka refused: {rejection.message}" if rejection else told
