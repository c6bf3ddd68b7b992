"""CloudEvents in HTTP messages (HTTP binding): reading requests and replies, writing requests.

Reading returns Kafka records, and writing takes the headers of Kafka records. An `Event` is created
in between only where it is necessary. `http_binary` contains the hot path of reading.
"""

from typing import Final

from headrace.codec import json_event, kafka
from headrace.codec.content_mode import JSON, ContentMode, content_types
from headrace.codec.http_binary import (
    HttpHeaders,
    Layout,
    assemble,
    layouts,
    passthrough_fields,
    refuse_encodings,
)
from headrace.codec.passthrough_headers import passthrough_value
from headrace.codec.percent import FIELD_TEXT, PLAIN, encode
from headrace.codec.record_layout import RecordLayout, record_layouts, split
from headrace.domain.attributes import POSITION_ATTRIBUTES, missing
from headrace.domain.event import BatchTooLarge, Event, InvalidEvent, UnsupportedContent
from headrace.domain.record import Headers, Record

__all__ = [
    "BatchTooLarge",
    "HttpHeaders",
    "InvalidEvent",
    "UnsupportedContent",
    "binary_lines",
    "read",
    "read_binary",
    "read_fields",
    "read_reply",
    "write_binary",
    "write_structured",
]

_POSITION_LINES = b"".join(b"ce-%b: %%d\r\n" % name.encode() for name in POSITION_ATTRIBUTES)
# Aliases: reading a member through its enum class takes ten times as long as reading a global, and
# these are read for each request.
_BINARY: Final = ContentMode.BINARY
_BATCH: Final = ContentMode.BATCH
_STRUCTURED_TYPE = f"content-type: {JSON}; charset=utf-8\r\n".encode()


def read(
    headers: HttpHeaders, body: bytes, *, arrival: bytes | None, events_max: int = 1_000
) -> list[Record]:
    """Return the records of a message in any content mode. A batch may be empty.

    The content type alone determines the mode; `ce-` headers of a structured message are ignored.
    `arrival` is RFC 3339 text, set as `knativearrivaltime` on events that have none.

    Raises `InvalidEvent` (400), for a batch with an index, and then no event of the batch is
    accepted; `BatchTooLarge` (413) for more than `events_max` events; and `UnsupportedContent`
    (415).
    """
    names, values = zip(*headers, strict=True) if headers else ((), ())
    return read_fields(names, values, body, arrival, events_max)


def read_fields(
    names: tuple[bytes, ...],
    values: tuple[bytes, ...],
    body: bytes,
    arrival: bytes | None,
    events_max: int,
) -> list[Record]:
    """As `read`, of headers whose names and values are apart."""
    if not names:
        raise missing("specversion")
    layout = layouts[names]
    at = layout.content_type
    content_type = None if at < 0 else content_types[values[at]]
    if content_type is None or content_type.mode is _BINARY:
        return [assemble(layout, values, body, arrival, content_type)]
    if content_type.mode is not _BATCH:
        return [_read_one(layout, values, body, arrival)]
    refuse_encodings(layout, values)
    carried = passthrough_fields(layout, values)
    return [_record(event, carried, arrival) for event in json_event.read_batch(body, events_max)]


def read_binary(headers: HttpHeaders, body: bytes, arrival: bytes | None) -> Record:
    """Return the record of a message with one event.

    For callers that saw a `ce-specversion` header. If the content type is that of structured mode,
    the message is still read in structured mode. Raises the same errors as `read`; a batch raises
    `InvalidEvent`.
    """
    if not headers:
        raise missing("specversion")
    names, values = zip(*headers)  # noqa: B905 - each header is a pair
    return _read_one(layouts[names], values, body, arrival)


def read_reply(
    status: int, headers: HttpHeaders, body: bytes, *, arrival: bytes | None = None
) -> Record | None:
    """Return the event that a subscriber answered with, or None if there is none.

    Only a 2xx status other than 202 can carry an event (data plane specification, "Event reply
    contract"). Raises `InvalidEvent` for a body that is not exactly one event: the delivery has
    then failed, and must not be treated as a success.
    """
    if not 200 <= status < 300 or status == 202:
        return None
    names, values = zip(*headers, strict=True) if headers else ((), ())
    layout = layouts[names]
    if not body and not layout.attribute_headers:
        return None
    try:
        return _read_one(layout, values, body, arrival)
    except UnsupportedContent as fault:
        raise InvalidEvent(
            None, f"is coded in a way that is not read here; answer with {fault.accepted}"
        ) from None


def may_be_reply(status: int, headers: HttpHeaders) -> bool:
    """Return whether a response can be an event, judging by its status and headers.

    `read_reply` returns no event for any other response.
    """
    if not 200 <= status < 300 or status == 202:
        return False
    return any(
        name.startswith(b"ce-")
        or (
            name == b"content-type"
            and value.lower().lstrip(b" \t").startswith(b"application/cloudevents")
        )
        for name, value in headers
    )


def write_binary(headers: Headers) -> bytes:
    """Return the HTTP header lines of a record: `ce-…`, Content-Type and passthrough headers.

    Attributes are percent-encoded. All other headers are left out, and so are headers with a value
    that could break a line.
    """
    if not headers:
        return b""
    lines = binary_lines(*split(headers))
    return write_binary(_safe(headers)) if lines is None else lines


def binary_lines(layout: RecordLayout, values: tuple[bytes, ...]) -> bytes | None:
    """As `write_binary`, of headers that `split` was called for; None if one of them has to be left
    out.
    """
    fields = layout.take_fields(values)
    joined = b"".join(fields)
    if joined.translate(PLAIN) == joined:  # The usual case: nothing is encoded or left out.
        return layout.lines % fields
    plain = layout.take_plain(values)
    joined = b"".join(plain)
    if joined.translate(FIELD_TEXT) != joined:
        return None
    return layout.lines % (*map(encode, layout.take(values)), *plain)


def write_position(partition: int, offset: int) -> bytes:
    """Return header lines with the position of an event in the Broker's topic.

    They follow the lines of `write_binary`.
    """
    return _POSITION_LINES % (partition, offset)


def write_structured(
    headers: Headers, value: bytes | None, position: tuple[int, int] | None = None
) -> tuple[bytes, bytes]:
    """Return the HTTP header lines and the body of a binary record in the JSON format.

    `position` is partition and offset in the Broker's topic. Raises `InvalidEvent` if a header is
    not UTF-8.
    """
    layout, values = split(headers) if headers else (record_layouts[()], ())
    carried = layout.take_passthrough(values)
    joined = b"".join(carried)
    if joined.translate(FIELD_TEXT) != joined:
        return write_structured(_safe(headers), value, position)
    event = kafka.event(headers, value)
    if position is not None:
        # As text: an offset may be larger than the 32 bits of a CloudEvents integer.
        event = Event(
            {**event.attributes, **dict(zip(POSITION_ATTRIBUTES, map(str, position), strict=True))},
            event.data,
        )
    return _STRUCTURED_TYPE + layout.plain_lines % carried, json_event.write(event)


def _read_one(
    layout: Layout, values: tuple[bytes, ...], body: bytes, arrival: bytes | None
) -> Record:
    at = layout.content_type
    content_type = None if at < 0 else content_types[values[at]]
    if content_type is None or content_type.mode is _BINARY:
        return assemble(layout, values, body, arrival, content_type)
    if content_type.mode is _BATCH:
        raise InvalidEvent(None, "must be one event, not a batch")
    refuse_encodings(layout, values)
    return _record(json_event.read(body), passthrough_fields(layout, values), arrival)


def _record(event: Event, carried: list[tuple[str, bytes]], arrival: bytes | None) -> Record:
    if arrival is not None and "knativearrivaltime" not in event.attributes:
        return kafka.record(event, [("ce_knativearrivaltime", arrival), *carried])
    return kafka.record(event, carried)


def _safe(headers: Headers) -> Headers:
    # Only records of other producers reach this code. A line break in a passthrough header would
    # start a new header.
    return [
        (name, value)
        for name, value in headers
        if name[:3].lower() == "ce_" or passthrough_value(value) is not None
    ]
