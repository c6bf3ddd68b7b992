"""The routing table that the controller publishes to the data plane, as values.

An *addressable* accepts events; a *subscription* says where they are sent. Only the controller
knows which kind of resource created either. Records are plain values; `headrace.codec.routing`
converts them to and from JSON.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headrace.domain.backend_name import KAFKA, backend_of
from headrace.domain.delivery import DeliveryPolicy

RETRY_TOPIC_SECONDS = 10.0
"""Events that are due within this time wait in the retry topic of their subscription, in the memory
of its reader.
"""
EVENT_BYTES_MAX = 1_048_576 - 65_536
"""For an addressable that does not specify a limit: 64 KiB below Kafka's usual limit of 1 MiB."""
DELAYS_KEY = "delays"
"""The key of the record that names the delay topics in Kafka."""
_ADDRESSABLE = "addressable/"
_SCHEMA = "schema/"
_SOURCE = "source/"


class DeliveryOrder(StrEnum):
    """Whether events of a subscription may overtake each other."""

    UNORDERED = "unordered"
    """No constraint: any number of events in flight."""
    ORDERED = "ordered"
    """One event in flight for each key, in partition order."""


class SchemaValidation(StrEnum):
    """What happens to an event whose data does not conform to the schema of its type."""

    OFF = "off"
    """Data is not looked at."""
    WARN = "warn"
    """The event is accepted, counted and reported."""
    ENFORCE = "enforce"
    """The event is refused."""


class Format(StrEnum):
    """CloudEvents content mode, of the requests to a subscriber or of the records in a topic."""

    BINARY = "binary"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressable:
    """Where events are accepted: one topic, with any number of paths and hosts."""

    uid: str
    generation: int
    epoch: int
    """Number of the controller that wrote the record. A record with an older epoch than the stored
    one is ignored.
    """
    namespace: str
    name: str
    """For operators and metrics; never used to build a Kafka name."""
    topic: str
    kind: str = ""
    """Kind of the resource, as a label of metrics and logs; the data plane does not interpret it.
    Empty in a record of a controller version that did not write it.
    """
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    event_bytes_max: int = EVENT_BYTES_MAX
    """Size of the largest accepted event, headers and data; 64 KiB below the topic's limit."""
    event_types: bool = False
    """Whether to report the types of accepted events to the controller."""
    validation: SchemaValidation = SchemaValidation.OFF
    """What happens to events that do not conform to one of the `EventSchema`s of this
    addressable.
    """
    format: Format = Format.BINARY
    """How events are written to the topic. One that subscriptions read has binary records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A resolved URL to post events to."""

    url: str
    ca_certs: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Where a subscriber's reply event is sent: either a topic or a URL, with what a `Destination`
    has.
    """

    topic: str | None = None
    url: str | None = None
    ca_certs: str | None = None
    audience: str | None = None

    def __post_init__(self) -> None:
        if (self.topic is None) == (self.url is None):
            raise ValueError("a reply goes to a topic or to a URL, exactly one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Where the events of one topic are sent, and by which rules."""

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
    """Dialects as in `spec.filters`; an event must pass all of them. `filter.attributes` is
    converted to `{"attributes": {…}}`. If empty, every event passes.
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
    """Whether to report the types of reply events to the controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayTier:
    """One delay topic. Every record in it waits `seconds` from its append time."""

    seconds: int
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """The delay topics of one backend, shortest first, and the group that reads all of them."""

    uid: str = DELAYS_KEY
    generation: int
    epoch: int
    group: str
    tiers: tuple[DelayTier, ...]

    @property
    def backend(self) -> str:
        """The backend of the topics."""
        return backend_of(self.group)

    def tier_for(self, seconds: float) -> DelayTier | None:
        """Return the longest tier of at most `seconds`, or None if the event should wait in the
        retry topic.
        """
        if seconds <= RETRY_TOPIC_SECONDS:
            return None
        return next((tier for tier in reversed(self.tiers) if tier.seconds <= seconds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSchema:
    """The schema of the data of one type of events at one addressable."""

    uid: str
    """Of the resource that describes the type."""
    generation: int
    epoch: int
    namespace: str
    name: str
    addressable: str
    """The uid of the addressable."""
    type: str
    source: str = ""
    """The `source` of the events; empty for any. Parts in braces stand for any text."""
    dataschema: str = ""
    """The `dataschema` of events that are meant for this schema rather than another one of the same
    type.
    """
    schema: str
    """A JSON Schema, as JSON text without unnecessary white space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """An outside system whose events the sources service sends to a sink."""

    uid: str
    generation: int
    epoch: int
    namespace: str
    name: str
    kind: str = ""
    """See `Addressable.kind`."""
    adapter: str
    """Name of the code that reads the outside system."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What the adapter needs to know, as JSON. Secrets are in it by reference only."""
    sink: Destination | None = None
    """Where events are posted. None in a record with `finalizing`."""
    sink_topic: str | None = None
    """The topic of the addressable at that URL, if there is one."""
    extensions: Mapping[str, str] = field(default_factory=dict)
    """Extension attributes that are set in every event (`ceOverrides`)."""
    delivery: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    dead_letter_sink: Destination | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    """The status fields that the source published before (see `SourceReport.fields`)."""
    paused: bool = False
    """No process runs it. Where it was stays known."""
    finalizing: bool = False
    """The resource is being deleted: remove what the source has in the outside system."""


Route = Addressable | Subscription | Delays | EventSchema | EventSource
"""One record of the routing table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRoute:
    """Says that the route under a key is removed, and who removed it.

    A bare tombstone does not say who wrote it: a controller that was replaced, but does not know it
    yet, could remove a route that its successor keeps. This record therefore carries the epoch. The
    tombstone, which allows compaction to drop the key, is written only after this record was
    applied.
    """

    epoch: int


class RoutingTable:
    """The records applied so far. One reader changes the table in place; all others on the same
    event loop only read it.
    """

    def __init__(self, backends: Collection[str] | None = None) -> None:
        """`backends` are the ones that this process serves; routes of others are treated as absent.
        None: all of them.
        """
        self.backends = tuple(backends) if backends is not None else None
        self.position = -1
        """Log position of the newest record applied, -1 before the first."""
        self._routes: dict[str, Route] = {}
        self._removed_routes: dict[str, int] = {}
        self._paths: dict[str, Addressable] = {}
        self._hosts: dict[str, Addressable] = {}

    def apply(self, key: str, entry: Route | RemovedRoute | None) -> bool:
        """Add, replace or remove the record `key`; return False if one with a newer epoch (or
        generation) is already there.

        None is a tombstone: it removes any record of the key.
        """
        old = self._routes.get(key)
        if not self._serves(entry):
            entry = None
        if self._is_older(key, entry, old):
            return False
        self._removed_routes.pop(key, None)
        if entry is None or isinstance(entry, RemovedRoute):
            self._routes.pop(key, None)
            if entry is not None:
                self._removed_routes[key] = entry.epoch
        else:
            self._routes[key] = entry
        if isinstance(old, Addressable) or isinstance(entry, Addressable):
            self._index()
        return True

    def _serves(self, entry: Route | RemovedRoute | None) -> bool:
        if self.backends is None or entry is None or isinstance(entry, RemovedRoute):
            return True
        # A schema is small, and of use only with its addressable. Sources are in no backend.
        return (
            isinstance(entry, EventSchema | EventSource) or backend_of_route(entry) in self.backends
        )

    def _is_older(self, key: str, entry: Route | RemovedRoute | None, old: Route | None) -> bool:
        if entry is None:
            return False
        if entry.epoch < self._removed_routes.get(key, entry.epoch):
            return True
        if old is None:
            return False
        return entry.epoch < old.epoch or (
            entry.epoch == old.epoch
            and not isinstance(entry, RemovedRoute)
            and entry.generation < old.generation
        )

    @property
    def removed_routes(self) -> Mapping[str, int]:
        """Epochs of the removed routes without a tombstone so far, by key."""
        return self._removed_routes

    def _index(self) -> None:
        self._paths = {path: each for each in self.addressables() for path in each.paths}
        self._hosts = {host.lower(): each for each in self.addressables() for host in each.hosts}

    def keys(self) -> Collection[str]:
        """Return the keys of all routes."""
        return self._routes.keys()

    def get(self, key: str) -> Route | None:
        """Return the record stored under `key`."""
        return self._routes.get(key)

    def addressable(self, path: str, host: str) -> Addressable | None:
        """Return the addressable for this path (compared exactly, without a trailing slash) or, if
        there is none, for this Host.
        """
        return self._paths.get(path) or self._hosts.get(host.lower())

    def has_host(self, name: str) -> bool:
        """Whether events may be posted to this Host (in lower case)."""
        return name in self._hosts

    def addressables(self) -> Iterator[Addressable]:
        """Return all addressables, in no particular order."""
        return (route for route in self._routes.values() if isinstance(route, Addressable))

    def subscriptions(self) -> Iterator[Subscription]:
        """Return all subscriptions, in no particular order."""
        return (route for route in self._routes.values() if isinstance(route, Subscription))

    def sources(self) -> Iterator[EventSource]:
        """Return all sources, in no particular order."""
        return (route for route in self._routes.values() if isinstance(route, EventSource))

    def schemas(self) -> Mapping[str, tuple[EventSchema, ...]]:
        """Return the schemas of each addressable, by its uid, sorted by their own uids."""
        found: dict[str, list[EventSchema]] = defaultdict(list)
        for route in self._routes.values():
            if isinstance(route, EventSchema):
                found[route.addressable].append(route)
        return {uid: tuple(sorted(each, key=lambda one: one.uid)) for uid, each in found.items()}

    def delays(self, backend: str = KAFKA) -> Delays | None:
        """Return the delay topics of a backend, or None until the controller has written them."""
        route = self._routes.get(delays_key(backend))
        return route if isinstance(route, Delays) else None

    def all_delays(self) -> Iterator[Delays]:
        """Return the delay topics of all backends, in no particular order."""
        return (route for route in self._routes.values() if isinstance(route, Delays))


def backend_of_route(route: Addressable | Subscription | Delays) -> str:
    """Return the backend that a route's topics are in."""
    return route.backend if isinstance(route, Delays) else backend_of(route.topic)


def addressable_key(uid: str) -> str:
    """Return the key of the record of the addressable with this uid."""
    return _ADDRESSABLE + uid


def schema_key(uid: str) -> str:
    """Return the key of the record of the schema that the resource with this uid describes."""
    return _SCHEMA + uid


def concerns_ingress(key: str) -> bool:
    """Whether the record under this key decides how events are accepted."""
    return key.startswith((_ADDRESSABLE, _SCHEMA))


def subscription_key(uid: str) -> str:
    """Return the key of the record of the subscription with this uid."""
    return f"subscription/{uid}"


def source_key(uid: str) -> str:
    """Return the key of the record of the source with this uid."""
    return _SOURCE + uid


def uid_of_source(key: str) -> str:
    """Return the uid of the source whose record has this key."""
    return key.removeprefix(_SOURCE)


def concerns_sources(key: str) -> bool:
    """Whether the record under this key is that of a source."""
    return key.startswith(_SOURCE)


def delays_key(backend: str) -> str:
    """Return the key of the record that names the delay topics of a backend."""
    return DELAYS_KEY if backend == KAFKA else f"{DELAYS_KEY}/{backend}"


def route_key(route: Route) -> str:
    """Return the key of a route's record: `addressable/<uid>`, `subscription/<uid>`,
    `schema/<uid>`, `source/<uid>`, or that of the delay topics.
    """
    match route:
        case Addressable():
            return addressable_key(route.uid)
        case Subscription():
            return subscription_key(route.uid)
        case EventSchema():
            return schema_key(route.uid)
        case EventSource():
            return source_key(route.uid)
        case Delays():
            return delays_key(route.backend)
