"""Writes `spec.subscribers` of channels that other controllers serve.

All entries of one channel that a plan changes are one write: the list as it is, with these entries,
on condition that the object was not written since. That is correct whether the CRD declares the
list as a map by uid or not at all, as Knative's own CRDs do: there a server-side apply would
replace the entries of other writers. A conflict is left to the next reconcile.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.errors import Permanent
from headrace.resources.channelable import fields_not_kept, subscriber_of, with_subscribers
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Resource, ResourceKey
from headrace_controller.reconcile.objects import subscriber_name
from headrace_controller.reconcile.plan import PutSubscriber, RemoveSubscriber, Step

Admit = Callable[[Resource, Resource | None], Resource]
"""From the wanted object and the stored one (None: there is none) to what may be stored, where no
API server checks it. Raises Permanent.
"""


def admit_unchanged(wanted: Resource, _old: Resource | None) -> Resource:
    """The API server that stores it admits it."""
    return wanted


@dataclass(slots=True)
class SubscriberList:
    """The changes of one plan to the list of one channel."""

    channel: Resource
    entries: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """By uid; None removes the entry."""

    @property
    def names(self) -> list[str]:
        """The keys of failed steps about these entries."""
        return [subscriber_name(self.channel, uid) for uid in self.entries]

    async def write(self, store: ResourceStore, stored: Resource, admit: Admit) -> None:
        """Write the list into the `stored` object. Raises what the store does, and Permanent if the
        kind does not keep the entries.
        """
        wanted = with_subscribers(stored, self.entries)
        new = await store.replace(admit(wanted, stored))
        spec = {} if new is None else new.spec
        lost = {
            name
            for uid, entry in self.entries.items()
            if entry is not None
            for name in fields_not_kept(entry, subscriber_of(spec, uid))
        }
        if lost:
            kind = self.channel.kind
            raise Permanent(
                f"{kind.kind} of {kind.api_version} does not keep"
                f" {', '.join(sorted(lost))} of spec.subscribers; the schema in its"
                " CustomResourceDefinition must allow what the channelable contract has"
            )


def subscriber_lists(steps: Sequence[Step]) -> list[SubscriberList]:
    """The lists that a plan changes."""
    found: dict[ResourceKey, SubscriberList] = {}
    for step in steps:
        if isinstance(step, PutSubscriber | RemoveSubscriber):
            channel = found.setdefault(step.resource.key, SubscriberList(step.resource))
            channel.entries[step.uid] = step.entry if isinstance(step, PutSubscriber) else None
    return list(found.values())
