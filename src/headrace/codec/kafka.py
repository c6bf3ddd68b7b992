"""CloudEvents in Kafka records (Kafka binding): binary mode, and to and from structured mode.

A record is an event in binary mode if its headers contain the required attributes. Records of other
producers are read by the same rules, except for rules on the format of single attributes (an
invalid `time`, for example): the event is already in the log, and is passed on unchanged. No value
may be longer than one that came by HTTP, because filters and subscribers rely on that limit.
"""

from collections.abc import Callable, Iterable
from typing import Final

from headrace.codec import json_event
from headrace.codec.byte_tables import allowing
from headrace.codec.content_mode import ContentMode, mode
from headrace.codec.passthrough_headers import is_passthrough
from headrace.codec.record_layout import RecordLayout, split
from headrace.domain import attributes as rules
from headrace.domain.event import Event, InvalidEvent, UnsupportedContent
from headrace.domain.record import Headers, Record, StoredRecord

_PRINTABLE: Final = allowing(bytes(range(0x20, 0x7F)))
_STRUCTURED_TYPE: Final = b"application/cloudevents+json"
_STRUCTURED: Final = ContentMode.STRUCTURED
_BATCH: Final = ContentMode.BATCH
"""Aliases: reading a member through its enum class takes ten times as long, and these are read for
each record.
"""


def attributes(headers: Headers) -> dict[str, str]:
    """Return the attributes of a binary record by name.

    `datacontenttype` is included, private attributes are not. Raises `InvalidEvent` if a value is
    not UTF-8, which cannot happen for a record that passed `normalise`.
    """
    return attributes_of(*split(headers)) if headers else {}


def attributes_of(layout: RecordLayout, values: tuple[bytes, ...]) -> dict[str, str]:
    """As `attributes`, of headers that `split` was called for."""
    try:
        return dict(zip(layout.all_names, map(bytes.decode, layout.take_all(values))))  # noqa: B905 - the same length by construction
    except UnicodeDecodeError:
        raise InvalidEvent(None, "must have UTF-8 in all record headers of attributes") from None


def normalise(record: StoredRecord, misplaced: Callable[[], None] | None = None) -> StoredRecord:
    """Return the record in binary mode, as `read` does."""
    return read(record, misplaced)[0]


def read(
    record: StoredRecord, misplaced: Callable[[], None] | None = None
) -> tuple[StoredRecord, RecordLayout, tuple[bytes, ...]]:
    """Return the record in binary mode, and its headers as `split` returns them.

    A record that is already in binary mode is returned unchanged, and is detected cheaply.
    Otherwise the result is a new record with the same position, key, passthrough headers and
    private headers.

    `misplaced` is called for a binary record with a `ce_datacontenttype` header. The header is
    ignored: the type of the data is given by `content-type` (Kafka binding 3.2.1), and is unknown
    without it.

    Raises `InvalidEvent` for a record that is not an event: an attribute is missing or not UTF-8,
    or the record is a batch or in an event format other than JSON.
    """
    headers = record.headers
    if not headers:
        raise rules.missing("specversion")
    layout, values = split(headers)
    if layout.content_type >= 0 and _mode(values[layout.content_type]) is _STRUCTURED:
        binary = _from_structured(record)
        return binary, *split(binary.headers)
    if layout.fault is not None:
        raise InvalidEvent(*layout.fault)
    taken = layout.take(values)
    specversion, id_, source, type_ = layout.required
    if taken[specversion] != b"1.0":
        rules.rules(taken[specversion].decode("latin-1"))
    if not (taken[id_] and taken[source] and taken[type_]):
        empty = next(each for each in (id_, source, type_) if not taken[each])
        raise InvalidEvent(layout.names[empty], "must not be empty")
    joined = b"".join(taken)
    if joined.translate(_PRINTABLE) != joined or len(joined) > rules.VALUE_BYTES_MAX:
        _examine(layout, taken)
    if layout.misplaced and misplaced is not None:
        misplaced()
    return record, layout, values


def record(event: Event, extra: Iterable[tuple[str, bytes]] = ()) -> Record:
    """Return the binary record of a valid event. Its key is `partitionkey`.

    Private attributes are left out. The `extra` headers follow those of the event.
    """
    headers = [
        ("ce_" + name, rules.canonical(value).encode())
        for name, value in event.attributes.items()
        if name != "datacontenttype" and not rules.is_private(name)
    ]
    content_type = event.attributes.get("datacontenttype")
    if content_type is not None:
        headers.append(("content-type", str(content_type).encode()))
    headers += extra
    key = event.attributes.get("partitionkey")
    return Record(None if key is None else str(key).encode(), event.data, headers)


def structured(binary: Record) -> Record:
    """Return the record in structured mode, with the JSON format (Kafka binding 3.3): the event is
    the value. Key and passthrough headers stay.
    """
    kept = [(name, value) for name, value in binary.headers if _stays(name)]
    value = json_event.write(event(binary.headers, binary.value))
    return Record(binary.key, value, [("content-type", _STRUCTURED_TYPE), *kept])


def event(headers: Headers, value: bytes | None) -> Event:
    """Return the event of a binary record. Raises the same errors as `attributes`."""
    return Event(attributes(headers), value)


def _mode(content_type: bytes) -> ContentMode:
    try:
        found = mode(content_type)
    except UnsupportedContent as fault:
        raise InvalidEvent(
            "datacontenttype", f"must not be an event format other than {fault.accepted}"
        ) from None
    if found is _BATCH:
        raise InvalidEvent("datacontenttype", "must not be a batch: a record holds one event")
    return found


def _from_structured(stored: StoredRecord) -> StoredRecord:
    kept = [(name, value) for name, value in stored.headers if _stays(name.lower())]
    binary = record(json_event.read(stored.value or b""), kept)
    return StoredRecord(
        topic=stored.topic,
        partition=stored.partition,
        offset=stored.offset,
        timestamp_ms=stored.timestamp_ms,
        key=stored.key,
        value=binary.value,
        headers=binary.headers,
        note=stored.note,
        size=stored.size,
    )


def _stays(name: str) -> bool:
    return is_passthrough(name) or name.startswith("headrace_")


def _examine(layout: RecordLayout, taken: tuple[bytes, ...]) -> None:
    for name, value in zip(layout.names, taken, strict=True):
        try:
            fault = rules.string_fault(value.decode())
        except UnicodeDecodeError:
            fault = "must be UTF-8"
        if fault is not None:
            raise InvalidEvent(name, fault)
