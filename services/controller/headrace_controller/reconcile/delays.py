"""The delay topics, which belong to the installation and not to a resource, and the routing record that names them.

They carry no conditions, so the two answers that need a person elsewhere are given here: an existing topic of right settings is taken
over (its name is reserved for us), and a deleted one is made again, for without it every subscription's late retries would stop.
"""

from headrace.domain.routing import DELAYS_KEY, Delays, DelayTier
from headrace.resources.holding import HeldTopic, Holding, Role
from headrace.resources.naming import DELAY_GROUP, DELAY_TIERS, delay_topic
from headrace_controller.reconcile.plan import Draft, KeepHolding, PutRoute
from headrace_controller.reconcile.specs import delay_topic_specs
from headrace_controller.reconcile.topics import Permissions, examine
from headrace_controller.reconcile.world import World

OWNER = "delays"


def reconcile_delays(world: World, draft: Draft, *, bytes_max: int) -> None:
    """Plan the delay topics for channels of at most `bytes_max`, then their routing record."""
    holding = world.holdings.get(OWNER)
    if holding is None:
        topics = tuple(HeldTopic(name=delay_topic(label), role=Role.DELAY) for label, _ in DELAY_TIERS)
        draft.add(KeepHolding(Holding(uid=OWNER, kind="Delays", namespace="", name=OWNER, topics=topics)))
        return
    seen, ready = holding, True
    for spec in delay_topic_specs(bytes_max=bytes_max, brokers=world.cluster.brokers):
        held = next(topic for topic in holding.topics if topic.name == spec.name)
        finding = examine(world, held, spec, Permissions(adopt=True, recreate=True))
        seen = seen.with_topic(finding.held)
        if finding.step:
            draft.add(finding.step)
        if finding.problem:
            ready = False
            draft.wait(finding.problem.message)
    if seen != holding:
        draft.add(KeepHolding(seen))
    elif ready:
        wanted = Delays(
            generation=1,
            epoch=world.epoch,
            group=DELAY_GROUP,
            tiers=tuple(DelayTier(seconds=seconds, topic=delay_topic(label)) for label, seconds in DELAY_TIERS),
        )
        if world.routes.get(DELAYS_KEY) != wanted:
            draft.add(PutRoute(wanted))
