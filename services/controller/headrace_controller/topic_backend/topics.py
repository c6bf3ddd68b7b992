"""Topics of an owner: created when that is safe, verified always, never assumed.

| stage of the name | topic | what follows |
|---|---|---|
| claimed | absent | the intent is recorded |
| claimed | present | `TopicNotOwned`, unless an annotation of the owner says to adopt it |
| intended | absent | it is created |
| intended | present | created by this controller: recorded with its id |
| created | absent | `TopicLost`: its events are gone; recreated if an annotation accepts that |
| created | another id | `TopicReplaced`: deleted and created again elsewhere; as above |
| created | same id | settings that drifted are corrected, missing partitions and replicas added |
| external | absent | `TopicNotPresent` |
| external | one of Headrace's own | `TopicReserved` |
| external | present | used as it is |

A lost topic is not recreated silently: an empty topic under the old name would look healthy while
acknowledged events are gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headrace.domain.backend_name import KAFKA, backend_of
from headrace.resources.control_ports import TopicDescription, TopicSpec
from headrace.resources.naming import RESERVED, reserved_message
from headrace.resources.ownership_record import OwnedTopic, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.observed_state import (
    LOST_ANNOTATION,
    TOPICS_ANNOTATION,
    ObservedState,
    StepFailure,
)
from headrace_controller.reconcile.plan import ReconcileProblem, Step
from headrace_controller.topic_backend.state import state_of
from headrace_controller.topic_backend.steps import (
    AddPartitions,
    AddReplicas,
    AlterTopic,
    CreateTopic,
)


@dataclass(frozen=True, slots=True)
class TopicAssessment:
    """What to do about one topic: a changed record of it, a step, a problem; or none of these, and
    it can be used.
    """

    held: OwnedTopic
    step: Step | None = None
    problem: ReconcileProblem | None = None
    facts: TopicDescription | None = None
    note: str = ""
    """Information for the status that does not prevent the topic's use."""


@dataclass(frozen=True, slots=True)
class TopicPermissions:
    """What the owner allows beyond the default."""

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
    facts = state_of(observed).topics.get(held.name)
    if facts is None:
        return _assess_absent(observed, held, wanted, permissions)
    match held.stage:
        case TopicStage.EXTERNAL if held.name in RESERVED:
            text = reserved_message(held.name)
            return TopicAssessment(held, problem=ReconcileProblem("TopicReserved", text))
        case TopicStage.EXTERNAL:
            return TopicAssessment(held, facts=facts)
        case TopicStage.CLAIMED if not permissions.adopt:
            text = (
                f"topic {held.name} exists already and was not created for this resource; delete"
                f" it, set annotation {TOPICS_ANNOTATION}: adopt here to take it over, or use it as"
                " it is (a Broker: name it as kafka.eventing.knative.dev/external.topic; a"
                " KafkaSink: leave out spec.numPartitions)"
            )
            return TopicAssessment(
                held, problem=ReconcileProblem("TopicNotOwned", text), facts=facts
            )
        case TopicStage.CREATED if (
            held.id and facts.id and held.id != facts.id and not permissions.recreate
        ):
            text = (
                f"topic {held.name} was deleted and created again outside Headrace; the events in"
                " the first one are gone. " + _remedy()
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
            text = (
                f"external topic {held.name} does not exist; create it, Headrace does not create"
                " external topics"
            )
            return TopicAssessment(held, problem=ReconcileProblem("TopicNotPresent", text))
        case TopicStage.CREATED if not permissions.recreate:
            text = (
                f"topic {held.name} was deleted outside Headrace; the events in it are gone. "
                + _remedy()
            )
            return TopicAssessment(held, problem=ReconcileProblem("TopicLost", text))
        case TopicStage.INTENDED:
            failure = observed.failed_steps.get(held.name)
            problem = (
                ReconcileProblem("TopicCreationFailed", f"topic {held.name}: {failure.message}")
                if failure
                else ReconcileProblem(
                    "TopicCreating", f"topic {held.name} is being created", waiting=True
                )
            )
            waits = observed.blocked(held.name) or held.name in state_of(observed).created
            return TopicAssessment(
                held, step=None if waits else CreateTopic(wanted), problem=problem
            )
        case _:
            return TopicAssessment(
                replace(held, stage=TopicStage.INTENDED, id=""),
                problem=ReconcileProblem(
                    "TopicCreating", f"topic {held.name} is about to be created", waiting=True
                ),
            )


def _remedy() -> str:
    return (
        f"Delete this resource and create it again, or set annotation {LOST_ANNOTATION}: recreate"
        " here to continue with an empty topic"
    )


def _assess_settings(
    observed: ObservedState, held: OwnedTopic, facts: TopicDescription, wanted: TopicSpec
) -> TopicAssessment:
    blocked, failure = observed.blocked(held.name), observed.failed_steps.get(held.name)
    drifted = drift(facts.settings, wanted.settings)
    if drifted:
        needed = ", ".join(f"{key}={value}" for key, value in sorted(drifted.items()))
        problem = ReconcileProblem(
            "TopicSettings",
            _with_failure(f"topic {held.name} needs {needed}", failure),
            waiting=failure is None,
        )
        return TopicAssessment(
            held, step=None if blocked else AlterTopic(held.name, drifted), problem=problem
        )
    difference = (
        f"topic {held.name} has {facts.partitions} partitions, {wanted.partitions} are wanted"
    )
    if facts.partitions < wanted.partitions:
        step = None if blocked else AddPartitions(held.name, wanted.partitions)
        note = _with_failure(difference, failure)
        return TopicAssessment(held, step=step, facts=facts, note=note)
    if _lacks_replicas(held, facts, wanted):
        more = AddReplicas(held.name, wanted.replication)
        return TopicAssessment(held, step=None if blocked else more, facts=facts)
    note = ""
    if facts.partitions > wanted.partitions:
        note = f"{difference}; partitions cannot be removed"
    return TopicAssessment(held, facts=facts, note=note)


def _lacks_replicas(held: OwnedTopic, facts: TopicDescription, wanted: TopicSpec) -> bool:
    """Whether replicas are to be added: the topic was created when the cluster had fewer servers.

    Not to a channel's topic, whose number its user has chosen, and not in Kafka, whose clients
    cannot do this.
    """
    return (
        held.role is not TopicRole.CHANNEL
        and backend_of(held.name) != KAFKA
        and facts.replication < wanted.replication
    )


def drift(actual: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Wanted settings that differ from the actual ones. A setting that is not reported (the
    embedded Kafka reports none) does not differ.
    """
    return {key: value for key, value in wanted.items() if key in actual and actual[key] != value}


def _with_failure(message: str, failure: StepFailure | None) -> str:
    return f"{message}; the change was rejected: {failure.message}" if failure else message
