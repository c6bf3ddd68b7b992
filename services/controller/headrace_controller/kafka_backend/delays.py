"""The delay topics, which belong to the installation and not to a resource, and the routing record
that names them.

They have no conditions, so the two decisions that need an operator for other topics are made here:
an existing topic with the right settings is taken over (its name is reserved), and a deleted one is
recreated, because without it all retries with a long delay would stop.
"""

from headrace.domain.routing import DELAYS_KEY, Delays, DelayTier
from headrace.resources.naming import DELAY_GROUP, DELAY_TIERS, delay_topic
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole
from headrace_controller.kafka_backend.topic_specs import delay_topic_specs
from headrace_controller.kafka_backend.topics import TopicPermissions, assess_topic
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft, PutRoute, SaveOwnershipRecord

OWNER = "delays"


def reconcile_delays(observed: ObservedState, draft: Draft, *, bytes_max: int) -> None:
    """Plan the delay topics for channels of at most `bytes_max`, then their routing record."""
    ownership = observed.ownership_records.get(OWNER)
    if ownership is None:
        topics = tuple(
            OwnedTopic(name=delay_topic(label), role=TopicRole.DELAY) for label, _ in DELAY_TIERS
        )
        draft.add(
            SaveOwnershipRecord(
                OwnershipRecord(uid=OWNER, kind="Delays", namespace="", name=OWNER, topics=topics)
            )
        )
        return
    seen, ready = ownership, True
    for spec in delay_topic_specs(bytes_max=bytes_max, brokers=observed.cluster.brokers):
        held = next(topic for topic in ownership.topics if topic.name == spec.name)
        assessment = assess_topic(observed, held, spec, TopicPermissions(adopt=True, recreate=True))
        seen = seen.with_topic(assessment.held)
        if assessment.step:
            draft.add(assessment.step)
        if assessment.problem:
            ready = False
            draft.wait(assessment.problem.message)
    if seen != ownership:
        draft.add(SaveOwnershipRecord(seen))
    elif ready:
        wanted = Delays(
            generation=1,
            epoch=observed.epoch,
            group=DELAY_GROUP,
            tiers=tuple(
                DelayTier(seconds=seconds, topic=delay_topic(label))
                for label, seconds in DELAY_TIERS
            ),
        )
        if observed.routes.get(DELAYS_KEY) != wanted:
            draft.add(PutRoute(wanted))
