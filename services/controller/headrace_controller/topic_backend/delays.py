"""The delay topics, which belong to the installation and not to a resource, and the routing record
that names them.

They have no conditions, so the two decisions that need an operator for other topics are made here:
an existing topic with the right settings is taken over (its name is reserved), and a deleted one is
recreated, because without it all retries with a long delay would stop.
"""

from headrace.domain.backend_name import KAFKA
from headrace.domain.routing import DELAYS_KEY, Delays, DelayTier, delays_key
from headrace.resources.naming import DELAY_TIERS, delay_group, delay_topic
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft, PutRoute, SaveOwnershipRecord
from headrace_controller.topic_backend.topic_specs import delay_topic_specs
from headrace_controller.topic_backend.topics import TopicPermissions, assess_topic


def delays_owner(backend: str = KAFKA) -> str:
    """The uid under which the delay topics of a backend are recorded."""
    return DELAYS_KEY if backend == KAFKA else f"{DELAYS_KEY}-{backend}"


def delays_route(epoch: int, backend: str = KAFKA) -> Delays:
    """The routing record of the delay topics."""
    return Delays(
        generation=1,
        epoch=epoch,
        group=delay_group(backend),
        tiers=tuple(
            DelayTier(seconds=seconds, topic=delay_topic(label, backend))
            for label, seconds in DELAY_TIERS
        ),
    )


def reconcile_delays(
    observed: ObservedState, draft: Draft, *, bytes_max: int, backend: str = KAFKA
) -> None:
    """Plan the delay topics for channels of at most `bytes_max`, then their routing record."""
    owner = delays_owner(backend)
    ownership = observed.ownership_records.get(owner)
    if ownership is None:
        topics = tuple(
            OwnedTopic(name=delay_topic(label, backend), role=TopicRole.DELAY)
            for label, _ in DELAY_TIERS
        )
        draft.add(
            SaveOwnershipRecord(
                OwnershipRecord(uid=owner, kind="Delays", namespace="", name=owner, topics=topics)
            )
        )
        return
    seen, ready = ownership, True
    specs = delay_topic_specs(
        bytes_max=bytes_max, brokers=observed.cluster.brokers, backend=backend
    )
    for spec in specs:
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
        wanted = delays_route(observed.epoch, backend)
        if observed.routes.get(delays_key(backend)) != wanted:
            draft.add(PutRoute(wanted))
