"""The routing table: what the controller publishes to the data plane, as values.

An *addressable* is something events are posted to; a *subscription* is somewhere they go. No code
below the controller knows which resource kind made one. Records are plain values;
`headrace.codec.routing` gives them their JSON form.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headrace.domain.delivery import DeliveryPolicy

RETRY_TOPIC_SECONDS = 10.0
"""What is due within this time waits in its subscription's retry topic, in the memory of its
reader.
"""
EVENT_BYTES_MAX = 1_048_576 - 65_536
"""Of an addressable that does not say: 64 KiB below Kafka's usual limit of 1 MiB."""
DELAYS_KEY = "delays"
"""The key of the record that names the delay topics."""
_ADDRESSABLE = "addressable/"


class DeliveryOrder(StrEnum):
    """How a subscription's events may overtake each other."""

    UNORDERED = "unordered"
    """Not at all constrained: any number in flight."""
    ORDERED = "ordered"
    """One in flight per key, in partition order."""


class Format(StrEnum):
    """CloudEvents content mode of the requests to a subscriber."""

    BINARY = "binary"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressable:
    """Where events are accepted: one topic behind any number of paths and hosts."""

    uid: str
    generation: int
    epoch: int
    """The controller that wrote the record; one of an older epoch than the stored one is
    ignored.
    """
    namespace: str
    name: str
    """For people and metrics; never used to build a Kafka name."""
    topic: str
    kind: str = ""
    """The resource's kind, a label of metrics and logs: no code of the data plane interprets it.
    Empty in the record of a controller that did not write it yet.
    """
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    event_bytes_max: int = EVENT_BYTES_MAX
    """Largest accepted event, headers and data; 64 KiB below the topic's own limit."""
    event_types: bool = False
    """Whether to report to the controller which types of events are accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A resolved place to post to."""

    url: str
    ca_certs: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Where a subscriber's reply event goes: a topic, or a URL; exactly one of them."""

    topic: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if (self.topic is None) == (self.url is None):
            raise ValueError("a reply goes to a topic or to a URL, exactly one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Where the events of one topic go, and by which rules."""

    uid: str
    generation: int
    epoch: int
    namespace: str
    name: str
    topic: str
    group: str
    retry_topic: str
    dead_topic: str
    subscriber: Destination
    kind: str = ""
    """See `Addressable.kind`."""
    filters: tuple[Mapping[str, Any], ...] = ()
    """Dialects as in `spec.filters`, all of which must pass; `filter.attributes` arrives as
    `{"attributes": {…}}`. Empty passes all.
    """
    reply: Reply | None = None
    delivery: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    dead_letter_sink: Destination | None = None
    order: DeliveryOrder = DeliveryOrder.UNORDERED
    format: Format = Format.BINARY
    breaker: bool = True
    retention_seconds: float | None = None
    """How long the channel topic keeps events; None is forever."""
    event_types: bool = False
    """Whether to report to the controller which types of replies come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayTier:
    """One delay topic: every record in it waits `seconds` from its append time."""

    seconds: int
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """The delay topics of this installation, shortest first, and the group that reads them all."""

    uid: str = "delays"
    generation: int
    epoch: int
    group: str
    tiers: tuple[DelayTier, ...]

    def tier_for(self, seconds: float) -> DelayTier | None:
        """The largest tier that is over before `seconds` are; None when the retry topic itself is
        the place to wait.
        """
        if seconds <= RETRY_TOPIC_SECONDS:
            return None
        return next((tier for tier in reversed(self.tiers) if tier.seconds <= seconds), None)


Route = Addressable | Subscription | Delays
"""One record of the routing table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Says under a key that its route is gone.

    A bare tombstone cannot say who wrote it: a controller that was replaced and does not know it
    yet could remove what its successor keeps. So a removal carries the epoch, and the tombstone
    that lets compaction forget the key follows only when the removal was applied.
    """

    epoch: int


class RoutingTable:
    """What is known so far; changed in place by one follower, read by everybody else on the same
    loop.
    """

    def __init__(self) -> None:
        self.position = -1
        """Log position of the newest record applied, -1 before the first."""
        self._routes: dict[str, Route] = {}
        self._removals: dict[str, int] = {}
        self._paths: dict[str, Addressable] = {}
        self._hosts: dict[str, Addressable] = {}

    def apply(self, key: str, entry: Route | Removal | None) -> bool:
        """Put, replace or remove the record `key`; False when a record or removal of a newer epoch
        (or generation) is already there.

        None is a tombstone: it removes whatever is there, and forgets a removal.
        """
        old = self._routes.get(key)
        if self._is_older(key, entry, old):
            return False
        self._removals.pop(key, None)
        if entry is None or isinstance(entry, Removal):
            self._routes.pop(key, None)
            if entry is not None:
                self._removals[key] = entry.epoch
        else:
            self._routes[key] = entry
        if isinstance(old, Addressable) or isinstance(entry, Addressable):
            self._index()
        return True

    def _is_older(self, key: str, entry: Route | Removal | None, old: Route | None) -> bool:
        if entry is None:
            return False
        if entry.epoch < self._removals.get(key, entry.epoch):
            return True
        if old is None:
            return False
        return entry.epoch < old.epoch or (
            entry.epoch == old.epoch
            and not isinstance(entry, Removal)
            and entry.generation < old.generation
        )

    @property
    def removals(self) -> Mapping[str, int]:
        """Epoch by key of the removals that no tombstone has followed yet."""
        return self._removals

    def _index(self) -> None:
        self._paths = {path: each for each in self.addressables() for path in each.paths}
        self._hosts = {host.lower(): each for each in self.addressables() for host in each.hosts}

    def get(self, key: str) -> Route | None:
        """The record stored under `key`."""
        return self._routes.get(key)

    def addressable(self, path: str, host: str) -> Addressable | None:
        """Who takes an event posted to this path (compared exactly, without a trailing slash) or,
        failing that, to this Host.
        """
        return self._paths.get(path) or self._hosts.get(host.lower())

    def has_host(self, name: str) -> bool:
        """Whether events may be posted to this Host (in lower case)."""
        return name in self._hosts

    def addressables(self) -> Iterator[Addressable]:
        """All addressables, in no particular order."""
        return (route for route in self._routes.values() if isinstance(route, Addressable))

    def subscriptions(self) -> Iterator[Subscription]:
        """All subscriptions, in no particular order."""
        return (route for route in self._routes.values() if isinstance(route, Subscription))

    def delays(self) -> Delays | None:
        """The delay topics, once the controller has written them."""
        return next((route for route in self._routes.values() if isinstance(route, Delays)), None)


def addressable_key(uid: str) -> str:
    """The key of the record of the addressable with this uid."""
    return _ADDRESSABLE + uid


def is_addressable_key(key: str) -> bool:
    """Whether the record under this key is an addressable's."""
    return key.startswith(_ADDRESSABLE)


def subscription_key(uid: str) -> str:
    """The key of the record of the subscription with this uid."""
    return f"subscription/{uid}"


def route_key(route: Route) -> str:
    """The key of a route's record: `addressable/<uid>`, `subscription/<uid>` or `delays`."""
    match route:
        case Addressable():
            return addressable_key(route.uid)
        case Subscription():
            return subscription_key(route.uid)
        case Delays():
            return DELAYS_KEY
