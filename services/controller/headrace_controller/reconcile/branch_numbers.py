"""Which number each branch of a Parallel has in the names of its children.

A branch keeps its number for as long as it is there, wherever it is in the list: with the
number of another one it would continue at that one's position in the channel, and skip or repeat
events. So the numbers are those of Knative, 0, 1, 2, when a Parallel is created, and may have gaps
when branches were removed.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from headrace.resources import parallel as rules
from headrace.resources.resource import Resource
from headrace_controller.reconcile.flow_layout import child_names, owned_subscription
from headrace_controller.reconcile.observed_state import ObservedState


def numbers_of(observed: ObservedState, parallel: Resource) -> Sequence[int]:
    """The number of each branch, in the order of the spec.

    A branch is the one that is there already if filter and subscriber are the same; else the one
    that had its place in the list, as long as that is not in the list any longer: it was changed.
    Any other branch is new, and gets a number that no child has.
    """
    branches = rules.branches(parallel)
    in_use = _numbers_in_use(observed, parallel)
    before = _numbers_before(parallel)
    contents = {each: found for each in in_use if (found := _content(observed, parallel, each))}
    numbers: dict[int, int] = {}

    def take(place: int, candidates: Sequence[int]) -> None:
        free = (each for each in candidates if each not in numbers.values())
        number = next(free, None)
        if place not in numbers and number is not None:
            numbers[place] = number

    wanted = [(each.get("filter") or None, each.get("subscriber")) for each in branches]
    for place, content in enumerate(wanted):
        take(place, [each for each in before[place : place + 1] if contents.get(each) == content])
    for place, content in enumerate(wanted):
        take(place, [each for each in sorted(contents) if contents[each] == content])
    for place in range(len(wanted)):
        take(place, before[place : place + 1])
    for place in range(len(wanted)):
        most = len(wanted) + len(in_use)
        take(place, [each for each in (place, *range(most + 1)) if each not in in_use])
    return [numbers[place] for place in range(len(wanted))]


def _numbers_in_use(observed: ObservedState, parallel: Resource) -> Set[int]:
    """The numbers of existing children."""
    found = (rules.number_of(parallel.name, name) for name in child_names(observed, parallel))
    return {each for each in found if each is not None}


def _numbers_before(parallel: Resource) -> list[int]:
    """The numbers that the status shows, in the order of the spec that it is about."""
    numbers = []
    listed = parallel.status.get("branchStatuses")
    for entry in listed if isinstance(listed, list) else ():
        shown = entry.get("filterChannelStatus") if isinstance(entry, Mapping) else None
        channel = shown.get("channel") if isinstance(shown, Mapping) else None
        name = channel.get("name") if isinstance(channel, Mapping) else None
        number = rules.number_of(parallel.name, str(name))
        if number is not None:
            numbers.append(number)
    return numbers


def _content(observed: ObservedState, parallel: Resource, number: int) -> Any:
    """Filter and subscriber of the branch that has this number; None if it is not there."""
    behind = owned_subscription(observed, parallel, rules.branch_name(parallel.name, number))
    before = owned_subscription(observed, parallel, rules.filter_name(parallel.name, number))
    if behind is None or before is None or behind.deleting or before.deleting:
        return None
    filtered = before.spec.get("subscriber") if before.spec.get("reply") else None
    return filtered, behind.spec.get("subscriber")
