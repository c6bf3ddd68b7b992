"""Reconcile: from everything that is known to the next steps, as a pure function. See `reconcile`."""

from collections.abc import Iterator

from headrace.resources import broker as broker_rules
from headrace.resources.broker_config import BYTES_MAX, InvalidConfig
from headrace.resources.holding import Role
from headrace.resources.kinds import BROKER, EVENT_TYPE
from headrace.resources.naming import Claims
from headrace.resources.resource import Resource
from headrace.resources.trigger import broker_name, broker_namespace
from headrace_controller.reconcile.brokers import broker_config, is_held, reconcile_broker, topic_bytes_max
from headrace_controller.reconcile.delays import OWNER as DELAYS_OWNER
from headrace_controller.reconcile.delays import reconcile_delays
from headrace_controller.reconcile.departures import (
    applied_removals,
    orphaned_routes,
    reconcile_departure,
    reconcile_lost,
    reconcile_retired,
)
from headrace_controller.reconcile.event_types import create_seen_types, reconcile_event_type
from headrace_controller.reconcile.plan import Draft, Plan
from headrace_controller.reconcile.triggers import reconcile_trigger
from headrace_controller.reconcile.world import World

__all__ = ["Plan", "World", "deciding", "reconcile"]

SLICE = 50
"""Resources decided upon at one go: some milliseconds of work."""


def reconcile(world: World) -> Plan:
    """Decide what to do next.

    A world in which everything is as it should be gives a plan without steps. Performing a plan's steps, in order and however
    many of them, then looking and deciding again, ends in such a world from any point.
    """
    return next(plan for plan in deciding(world) if plan is not None)


def deciding(world: World) -> Iterator[Plan | None]:
    """`reconcile` in slices: None after each of them, the plan at the end.

    With a thousand Triggers it takes a tenth of a second, and whoever shares a thread with it (the API does) must not wait for all of that.
    """
    draft = Draft()
    claims = Claims({name: uid for uid, holding in world.holdings.items() for name in holding.names})
    reconcile_delays(world, draft, bytes_max=_largest_channel(world))
    for number, resource in enumerate((*world.brokers, *world.triggers, *world.event_types)):
        if number % SLICE == SLICE - 1:
            yield None
        with draft.about(resource):
            _decide_one(world, resource, claims, draft)
    live = {each.uid for each in (*world.brokers, *world.triggers)}
    create_seen_types(world, draft)
    for uid, holding in world.holdings.items():
        if holding.retired_until is not None:
            reconcile_retired(world, holding, draft)
        elif uid not in live and uid != DELAYS_OWNER and world.installation.serves(holding.namespace):
            reconcile_lost(world, holding, draft)
    orphaned_routes(world, live | set(world.holdings), draft)
    applied_removals(world, draft)
    yield draft.finish()


def _decide_one(world: World, resource: Resource, claims: Claims, draft: Draft) -> None:
    kind = resource.kind.kind
    if kind == EVENT_TYPE.kind:
        if not resource.deleting:
            reconcile_event_type(world, resource, draft)
    elif resource.deleting:
        reconcile_departure(world, resource, world.holdings.get(resource.uid), draft)
    elif kind == BROKER.kind:
        if is_held(world, resource):
            reconcile_broker(world, resource, claims, draft)
    elif _reads_ours(world, resource):
        reconcile_trigger(world, resource, claims, draft)


def _reads_ours(world: World, trigger: Resource) -> bool:
    """Whether the Trigger is ours: not when its Broker is of another class, and so another controller's."""
    broker = world.broker(broker_namespace(trigger), broker_name(trigger))
    return broker is None or is_held(world, broker)


def _largest_channel(world: World) -> int:
    """The largest record of any channel: what the shared delay topics must take."""
    sizes = [BYTES_MAX]
    for holding in world.holdings.values():
        held = holding.topic(Role.CHANNEL)
        facts = world.topics.get(held.name) if held else None
        if facts is not None:
            sizes.append(topic_bytes_max(facts, BYTES_MAX))
    for broker in world.brokers:
        if broker_rules.is_ours(broker) and broker.uid not in world.faults:
            try:
                sizes.append(broker_config(world, broker).bytes_max)
            except InvalidConfig:
                continue
    return max(sizes)
