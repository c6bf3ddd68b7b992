"""Routing records as JSON: the controller writes them, and every data plane process reads them.

They are stored in a compacted topic. Readers of this version must work with records of the next and
the previous version: they ignore unknown members, skip unknown kinds, and use defaults for missing
optional members. `v` is raised only by a change that an older reader must not try to interpret. A
record with a higher `v`, like a damaged record, leaves the last valid record in effect.

A route is removed by a record of the kind `removed`, which contains the epoch, and then by a
tombstone. Readers of the previous version skip that kind and remove the route at the tombstone.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.domain.delivery import BackoffPolicy, DeliveryPolicy
from headrace.domain.record import StoredRecord
from headrace.domain.routing import (
    Addressable,
    Delays,
    DelayTier,
    DeliveryOrder,
    Destination,
    EventSchema,
    EventSource,
    Format,
    RemovedRoute,
    Reply,
    Route,
    RoutingTable,
    SchemaValidation,
    Subscription,
)

VERSION = 1
RECORD_BYTES_MAX = 262_144
EVENT_BYTES_MAX = 983_040
"""Default for addressables without a limit in their record: 64 KiB below Kafka's usual 1 MiB."""
ITEMS_MAX = 1_000
"""Maximum number of paths, hosts, filters or tiers in one record."""


class BadRoutingRecord(ValueError):
    """The record is not a valid routing record; the message names the member."""


def write(entry: Route | RemovedRoute) -> bytes:
    """Return the value of the record. The same entry always gives the same bytes."""
    match entry:
        case Addressable():
            members = _addressable(entry)
        case Subscription():
            members = _subscription(entry)
        case EventSchema():
            members = _event_schema(entry)
        case EventSource():
            members = _event_source(entry)
        case Delays():
            members = _delays(entry)
        case RemovedRoute():
            members = {"kind": "removed", "epoch": entry.epoch}
    return json.dumps(
        {"v": VERSION, **members}, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def read(key: str, value: bytes) -> Route | RemovedRoute | None:
    """Return the content of a record, or None for an unknown kind or a higher version.

    A newer controller wrote these. Raises `BadRoutingRecord`.
    """
    if len(value) > RECORD_BYTES_MAX:
        raise BadRoutingRecord(
            f"{key}: {len(value)} bytes, a routing record has at most {RECORD_BYTES_MAX}"
        )
    try:
        members = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRoutingRecord(f"{key}: not JSON") from error
    source = _Members(key, members)
    if source.integer("v", 0) > VERSION:
        return None
    reader = _READERS.get(source.text("kind"))
    if reader is None:
        return None
    try:
        return reader(source)
    except ValueError as error:
        raise BadRoutingRecord(
            str(error) if isinstance(error, BadRoutingRecord) else f"{key}: {error}"
        ) from error


@dataclass(slots=True)
class ApplyResult:
    """How a batch of records changed a table."""

    changed: set[str] = field(default_factory=set)
    """Keys of routes that were added, replaced or removed."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Keys of records that were not applied, with the reason for a log line."""


def apply(table: RoutingTable, records: Iterable[StoredRecord]) -> ApplyResult:
    """Apply records in log order.

    Records that cannot be read or have an older epoch are ignored. The position advances in any
    case.
    """
    applied = ApplyResult()
    for record in records:
        table.position = record.offset
        if record.key is None:
            continue
        key = record.key.decode("utf-8", errors="replace")
        try:
            entry = None if record.value is None else read(key, record.value)
        except BadRoutingRecord as error:
            applied.ignored[key] = str(error)
            continue
        if entry is None and record.value is not None:
            applied.ignored[key] = "of a kind or version that this process does not know"
        elif (entry is None or isinstance(entry, RemovedRoute)) and table.get(key) is None:
            table.apply(key, entry)
        elif table.apply(key, entry):
            applied.changed.add(key)
        else:
            applied.ignored[key] = "an older controller wrote it"
    return applied


def _identity(
    kind: str, route: Addressable | Subscription | EventSchema | EventSource
) -> dict[str, Any]:
    return {
        "kind": kind,
        "uid": route.uid,
        "generation": route.generation,
        "epoch": route.epoch,
        "namespace": route.namespace,
        "name": route.name,
    }


def _head(kind: str, route: Addressable | Subscription) -> dict[str, Any]:
    members = _identity(kind, route) | {"topic": route.topic}
    return members | {"resourceKind": route.kind} if route.kind else members


def _addressable(route: Addressable) -> dict[str, Any]:
    members = _head("addressable", route) | {
        "paths": route.paths,
        "hosts": route.hosts,
        "eventBytesMax": route.event_bytes_max,
    }
    if route.event_types:
        members["eventTypes"] = True
    if route.validation is not SchemaValidation.OFF:
        members["validation"] = route.validation
    if route.format is not Format.BINARY:
        members["format"] = route.format
    return members


def _event_schema(route: EventSchema) -> dict[str, Any]:
    return {
        **_identity("schema", route),
        "addressable": route.addressable,
        "type": route.type,
        **({"source": route.source} if route.source else {}),
        **({"dataschema": route.dataschema} if route.dataschema else {}),
        # As a value and not as text, in which every quote would be escaped.
        "schema": json.loads(route.schema),
    }


def _subscription(route: Subscription) -> dict[str, Any]:
    members = _head("subscription", route) | {
        "group": route.group,
        "retryTopic": route.retry_topic,
        "deadTopic": route.dead_topic,
        "subscriber": _destination(route.subscriber),
        "filters": route.filters,
        "delivery": _delivery(route.delivery),
        "order": route.order,
        "format": route.format,
        "breaker": route.breaker,
    }
    if route.reply is not None:
        members["reply"] = (
            {"topic": route.reply.topic}
            if route.reply.topic is not None
            else _destination(route.reply)
        )
    if route.retention_seconds is not None:
        members["retentionSeconds"] = float(route.retention_seconds)
    if route.event_types:
        members["eventTypes"] = True
    if route.dead_letter_sink is not None:
        members["deadLetterSink"] = _destination(route.dead_letter_sink)
    return members


def _event_source(route: EventSource) -> dict[str, Any]:
    members: dict[str, Any] = {
        **_identity("source", route),
        "resourceKind": route.kind,
        "adapter": route.adapter,
        "config": route.config,
        "delivery": _delivery(route.delivery),
    }
    if route.sink is not None:
        members["sink"] = _destination(route.sink)
    if route.sink_topic is not None:
        members["sinkTopic"] = route.sink_topic
    if route.dead_letter_sink is not None:
        members["deadLetterSink"] = _destination(route.dead_letter_sink)
    if route.extensions:
        members["extensions"] = route.extensions
    if route.published:
        members["published"] = route.published
    if route.paused:
        members["paused"] = True
    if route.finalizing:
        members["finalizing"] = True
    return members


def _delivery(policy: DeliveryPolicy) -> dict[str, Any]:
    return {
        "retry": policy.retry,
        "timeoutSeconds": float(policy.timeout_seconds),
        "backoff": policy.backoff,
        "delaySeconds": float(policy.delay_seconds),
        "backoffMaxSeconds": float(policy.backoff_max_seconds),
        "retryAfterMaxSeconds": float(policy.retry_after_max_seconds),
    }


def _destination(destination: Destination | Reply) -> dict[str, Any]:
    optional = {"caCerts": destination.ca_certs, "audience": destination.audience}
    return {
        "url": destination.url,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _delays(route: Delays) -> dict[str, Any]:
    return {
        "kind": "delays",
        "uid": route.uid,
        "generation": route.generation,
        "epoch": route.epoch,
        "group": route.group,
        "tiers": [{"seconds": tier.seconds, "topic": tier.topic} for tier in route.tiers],
    }


class _Members:
    """A JSON object whose members are read by name and type."""

    def __init__(self, where: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise BadRoutingRecord(f"{where}: must be an object")
        self.where = where
        self._value = value

    def has(self, name: str) -> bool:
        return self._value.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise BadRoutingRecord(f"{self.where}: {name} must be a string")
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadRoutingRecord(f"{self.where}: {name} must be an integer")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1e9:
            raise BadRoutingRecord(f"{self.where}: {name} must be a number of seconds, 0 to 1e9")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:  # a member's default, not a switch
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadRoutingRecord(f"{self.where}: {name} must be true or false")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > ITEMS_MAX:
            raise BadRoutingRecord(f"{self.where}: {name} must be an array of at most {ITEMS_MAX}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise BadRoutingRecord(f"{self.where}: {name} must hold strings")
        return tuple(values)

    def objects(self, name: str) -> list["_Members"]:
        return [
            _Members(f"{self.where}: {name}[{index}]", value)
            for index, value in enumerate(self.items(name))
        ]

    def object(self, name: str) -> "_Members":
        return _Members(f"{self.where}: {name}", self._value.get(name) or {})

    def mapping(self) -> Mapping[str, Any]:
        return self._value

    def text_mapping(self) -> Mapping[str, str]:
        if not all(isinstance(value, str) for value in self._value.values()):
            raise BadRoutingRecord(f"{self.where}: must hold strings")
        return self._value


def _read_identity(source: _Members) -> dict[str, Any]:
    return {
        "uid": source.text("uid"),
        "generation": source.integer("generation"),
        "epoch": source.integer("epoch"),
        "namespace": source.text("namespace"),
        "name": source.text("name"),
    }


def _read_addressable(source: _Members) -> Addressable:
    return Addressable(
        **_read_identity(source),
        topic=source.text("topic"),
        kind=source.text("resourceKind", ""),
        paths=source.texts("paths"),
        hosts=source.texts("hosts"),
        event_bytes_max=source.integer("eventBytesMax", EVENT_BYTES_MAX),
        event_types=source.flag("eventTypes", default=False),
        validation=_read_validation(source),
        format=Format(source.text("format", Format.BINARY)),
    )


def _read_validation(source: _Members) -> SchemaValidation:
    """A mode that this version does not know is off: it must not refuse events for it."""
    value = source.text("validation", SchemaValidation.OFF)
    return SchemaValidation(value) if value in list(SchemaValidation) else SchemaValidation.OFF


def _read_event_schema(source: _Members) -> EventSchema:
    schema = source.mapping().get("schema")
    if not isinstance(schema, dict | bool):
        raise BadRoutingRecord(f"{source.where}: schema must be an object, true or false")
    return EventSchema(
        **_read_identity(source),
        addressable=source.text("addressable"),
        type=source.text("type"),
        source=source.text("source", ""),
        dataschema=source.text("dataschema", ""),
        schema=json.dumps(schema, separators=(",", ":"), ensure_ascii=False, allow_nan=False),
    )


def _read_subscription(source: _Members) -> Subscription:
    return Subscription(
        **_read_identity(source),
        topic=source.text("topic"),
        kind=source.text("resourceKind", ""),
        group=source.text("group"),
        retry_topic=source.text("retryTopic"),
        dead_topic=source.text("deadTopic"),
        subscriber=_read_destination(source.object("subscriber")),
        filters=tuple(each.mapping() for each in source.objects("filters")),
        reply=_read_reply(source.object("reply")) if source.has("reply") else None,
        delivery=_read_delivery(source.object("delivery")),
        dead_letter_sink=_read_destination(source.object("deadLetterSink"))
        if source.has("deadLetterSink")
        else None,
        order=DeliveryOrder(source.text("order", DeliveryOrder.UNORDERED)),
        format=Format(source.text("format", Format.BINARY)),
        breaker=source.flag("breaker", default=True),
        retention_seconds=source.seconds("retentionSeconds", 0.0) or None,
        event_types=source.flag("eventTypes", default=False),
    )


def _read_event_source(source: _Members) -> EventSource:
    return EventSource(
        **_read_identity(source),
        kind=source.text("resourceKind", ""),
        adapter=source.text("adapter"),
        config=source.object("config").mapping(),
        sink=_read_destination(source.object("sink")) if source.has("sink") else None,
        sink_topic=source.optional_text("sinkTopic"),
        extensions=source.object("extensions").text_mapping(),
        delivery=_read_delivery(source.object("delivery")),
        dead_letter_sink=_read_destination(source.object("deadLetterSink"))
        if source.has("deadLetterSink")
        else None,
        published=source.object("published").mapping(),
        paused=source.flag("paused", default=False),
        finalizing=source.flag("finalizing", default=False),
    )


def _read_destination(source: _Members) -> Destination:
    return Destination(
        url=source.text("url"),
        ca_certs=source.optional_text("caCerts"),
        audience=source.optional_text("audience"),
    )


def _read_reply(source: _Members) -> Reply:
    topic = source.optional_text("topic")
    if topic is not None:
        return Reply(topic=topic, url=source.optional_text("url"))
    return Reply(
        url=source.optional_text("url"),
        ca_certs=source.optional_text("caCerts"),
        audience=source.optional_text("audience"),
    )


def _read_delivery(source: _Members) -> DeliveryPolicy:
    default = DeliveryPolicy()
    return DeliveryPolicy(
        retry=source.integer("retry", default.retry),
        timeout_seconds=source.seconds("timeoutSeconds", default.timeout_seconds),
        backoff=BackoffPolicy(source.text("backoff", default.backoff)),
        delay_seconds=source.seconds("delaySeconds", default.delay_seconds),
        backoff_max_seconds=source.seconds("backoffMaxSeconds", default.backoff_max_seconds),
        retry_after_max_seconds=source.seconds(
            "retryAfterMaxSeconds", default.retry_after_max_seconds
        ),
    )


def _read_delays(source: _Members) -> Delays:
    return Delays(
        uid=source.text("uid", "delays"),
        generation=source.integer("generation"),
        epoch=source.integer("epoch"),
        group=source.text("group"),
        tiers=tuple(
            DelayTier(seconds=each.integer("seconds"), topic=each.text("topic"))
            for each in source.objects("tiers")
        ),
    )


def _read_removed_route(source: _Members) -> RemovedRoute:
    return RemovedRoute(epoch=source.integer("epoch"))


_READERS: dict[str, Callable[[_Members], Route | RemovedRoute]] = {
    "addressable": _read_addressable,
    "subscription": _read_subscription,
    "delays": _read_delays,
    "schema": _read_event_schema,
    "source": _read_event_source,
    "removed": _read_removed_route,
}
