"""Reconcile: from everything that is known to the next steps, as a pure function. See
`reconcile`.
"""

from collections.abc import Iterator

from headrace.resources import broker as broker_rules
from headrace.resources.broker_config import BYTES_MAX, InvalidConfig
from headrace.resources.kinds import BROKER, EVENT_TYPE
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import TopicRole
from headrace.resources.resource import Resource
from headrace.resources.trigger import broker_name, broker_namespace
from headrace_controller.reconcile.brokers import (
    broker_config,
    is_managed,
    reconcile_broker,
    topic_bytes_max,
)
from headrace_controller.reconcile.delays import OWNER as DELAYS_OWNER
from headrace_controller.reconcile.delays import reconcile_delays
from headrace_controller.reconcile.event_types import (
    create_observed_event_types,
    reconcile_event_type,
)
from headrace_controller.reconcile.finalization import (
    finalize,
    finalize_orphaned,
    finalize_retired,
    remove_orphaned_routes,
    write_tombstones,
)
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft, Plan
from headrace_controller.reconcile.triggers import reconcile_trigger

__all__ = ["ObservedState", "Plan", "reconcile", "reconcile_in_slices"]

SLICE_RESOURCES = 50
"""Resources decided upon at one go: some milliseconds of work."""


def reconcile(observed: ObservedState) -> Plan:
    """Decide what to do next.

    A world in which everything is as it should be gives a plan without steps. Performing a plan's
    steps, in order and however many of them, then looking and deciding again, ends in such a world
    from any point.
    """
    return next(plan for plan in reconcile_in_slices(observed) if plan is not None)


def reconcile_in_slices(observed: ObservedState) -> Iterator[Plan | None]:
    """`reconcile` in slices: None after each of them, the plan at the end.

    With a thousand Triggers it takes a tenth of a second, and whoever shares a thread with it (the
    API does) must not wait for all of that.
    """
    draft = Draft()
    allocator = NameAllocator(
        {
            name: uid
            for uid, ownership in observed.ownership_records.items()
            for name in ownership.names
        }
    )
    reconcile_delays(observed, draft, bytes_max=_largest_channel(observed))
    for number, resource in enumerate(
        (*observed.brokers, *observed.triggers, *observed.event_types)
    ):
        if number % SLICE_RESOURCES == SLICE_RESOURCES - 1:
            yield None
        with draft.isolated(resource):
            _reconcile_one(observed, resource, allocator, draft)
    live = {each.uid for each in (*observed.brokers, *observed.triggers)}
    create_observed_event_types(observed, draft)
    for uid, ownership in observed.ownership_records.items():
        if ownership.retired_until is not None:
            finalize_retired(observed, ownership, draft)
        elif (
            uid not in live
            and uid != DELAYS_OWNER
            and observed.installation.serves(ownership.namespace)
        ):
            finalize_orphaned(observed, ownership, draft)
    remove_orphaned_routes(observed, live | set(observed.ownership_records), draft)
    write_tombstones(observed, draft)
    yield draft.finish()


def _reconcile_one(
    observed: ObservedState, resource: Resource, allocator: NameAllocator, draft: Draft
) -> None:
    kind = resource.kind.kind
    if kind == EVENT_TYPE.kind:
        if not resource.deleting:
            reconcile_event_type(observed, resource, draft)
    elif resource.deleting:
        finalize(observed, resource, observed.ownership_records.get(resource.uid), draft)
    elif kind == BROKER.kind:
        if is_managed(observed, resource):
            reconcile_broker(observed, resource, allocator, draft)
    elif _has_managed_broker(observed, resource):
        reconcile_trigger(observed, resource, allocator, draft)


def _has_managed_broker(observed: ObservedState, trigger: Resource) -> bool:
    """Whether the Trigger is ours: not when its Broker is of another class, and so another
    controller's.
    """
    broker = observed.broker(broker_namespace(trigger), broker_name(trigger))
    return broker is None or is_managed(observed, broker)


def _largest_channel(observed: ObservedState) -> int:
    """The largest record of any channel: what the shared delay topics must take."""
    sizes = [BYTES_MAX]
    for ownership in observed.ownership_records.values():
        held = ownership.topic(TopicRole.CHANNEL)
        facts = observed.topics.get(held.name) if held else None
        if facts is not None:
            sizes.append(topic_bytes_max(facts, BYTES_MAX))
    for broker in observed.brokers:
        if broker_rules.is_ours(broker) and broker.uid not in observed.validation_errors:
            try:
                sizes.append(broker_config(observed, broker).bytes_max)
            except InvalidConfig:
                continue
    return max(sizes)
