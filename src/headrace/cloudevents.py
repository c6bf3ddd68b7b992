"""Read and write CloudEvents 1.0 and 0.3 over HTTP and Kafka, in all content modes.

An `Event` holds the context attributes as a mapping and the data as bytes. Events are validated
when they are read and when they are written. An invalid event raises `InvalidEvent`, which names
the attribute.

>>> from headrace import cloudevents
>>> attributes = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}
>>> event = cloudevents.Event({**attributes, "datacontenttype": "text/plain"}, b"hello")
>>> message = cloudevents.write_http(event)
>>> message.headers[0], message.body
(('ce-specversion', '1.0'), b'hello')
>>> cloudevents.read_http(message.headers, message.body) == event
True

Attributes that are reserved for Headrace and Knative (`knativebrokerttl`, and names that start with
`headrace`) are removed in both directions. In binary mode, every attribute is read as text. In
structured mode, integers and booleans keep their type.

This module imports only the standard library. Its names are stable: a change that breaks callers
requires a new major version.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headrace.codec import http, json_event, kafka
from headrace.codec.content_mode import JSON, JSON_BATCH, ContentMode, mode
from headrace.codec.http_binary import layouts, refuse_encodings
from headrace.domain.attributes import check, is_private
from headrace.domain.event import BatchTooLarge, Event, InvalidEvent, UnsupportedContent, Value
from headrace.domain.record import Headers, Record, StoredRecord

__all__ = [
    "EVENTS_MAX",
    "BatchTooLarge",
    "ContentMode",
    "Event",
    "HttpHeaders",
    "HttpMessage",
    "InvalidEvent",
    "Record",
    "UnsupportedContent",
    "Value",
    "read_http",
    "read_http_batch",
    "read_kafka",
    "write_http",
    "write_http_batch",
    "write_kafka",
]

HttpHeaders = Mapping[str, str] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]
"""HTTP headers in the forms that web frameworks use: a mapping, or pairs of text or bytes (ASGI).
Names are not case-sensitive.
"""
EVENTS_MAX = 1_000
"""Default for the maximum number of events in a batch that is read."""


class HttpMessage(NamedTuple):
    """Headers and body of an HTTP request or response."""

    headers: list[tuple[str, str]]
    body: bytes


def read_http(headers: HttpHeaders, body: bytes) -> Event:
    """Read the event of an HTTP message in binary or structured mode.

    The Content-Type header determines the mode. Raises `InvalidEvent` if the message is not exactly
    one event, and `UnsupportedContent` for an event format other than JSON or a Content-Encoding
    other than `identity`. An HTTP server answers with 400 and 415.

    >>> headers = {"Content-Type": "application/cloudevents+json"}
    >>> body = b'{"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}'
    >>> read_http(headers, body).attributes["type"]
    'order.created'
    >>> read_http({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop"}, b"")
    Traceback (most recent call last):
    headrace.domain.event.InvalidEvent: attribute 'type' is missing; every event must have ...
    """
    pairs = _lower(headers)
    if _mode(pairs) is ContentMode.STRUCTURED:
        _refuse_encodings(pairs)
        return _without_private(json_event.read(body))
    record = http.read_binary(pairs, body, None)
    return kafka.event(record.headers, record.value)


def read_http_batch(
    headers: HttpHeaders, body: bytes, *, events_max: int = EVENTS_MAX
) -> list[Event]:
    """Read all events of an HTTP message in any content mode; a batch may be empty.

    Raises the same errors as `read_http`, with the index of the first invalid event of a batch, and
    `BatchTooLarge` (413) if a batch has more than `events_max` events.

    >>> read_http_batch({"Content-Type": "application/cloudevents-batch+json"}, b"[]")
    []
    """
    pairs = _lower(headers)
    if _mode(pairs) is not ContentMode.BATCH:
        return [read_http(pairs, body)]
    _refuse_encodings(pairs)
    return [_without_private(event) for event in json_event.read_batch(body, events_max)]


def write_http(event: Event, content_mode: ContentMode = ContentMode.BINARY) -> HttpMessage:
    """Write an event as an HTTP message.

    Binary mode writes the attributes to `ce-` headers, percent-encoded where the HTTP binding
    requires it, and the data to the body. Structured mode writes JSON. Raises `InvalidEvent`, and
    ValueError for batch mode (use `write_http_batch`).

    >>> event = Event({"specversion": "1.0", "id": "1", "source": "/", "type": "t"}, b"1")
    >>> write_http(event, ContentMode.STRUCTURED).body
    b'{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"MQ=="}'
    """
    if content_mode is ContentMode.BATCH:
        raise ValueError("write_http writes one event; use write_http_batch")
    public = _checked(event)
    if content_mode is ContentMode.STRUCTURED:
        return HttpMessage([("content-type", f"{JSON}; charset=utf-8")], json_event.write(public))
    lines = http.write_binary(kafka.record(public).headers).decode("latin-1").splitlines()
    pairs = (line.partition(": ") for line in lines)
    return HttpMessage([(name, value) for name, _, value in pairs], event.data or b"")


def write_http_batch(events: Iterable[Event]) -> HttpMessage:
    """Write events as one HTTP message in batch mode.

    Raises `InvalidEvent` with the index of the invalid event.

    >>> event = Event({"specversion": "1.0", "id": "1", "source": "/", "type": "t"})
    >>> write_http_batch([event, event]).headers
    [('content-type', 'application/cloudevents-batch+json; charset=utf-8')]
    """
    texts = []
    for index, event in enumerate(events):
        try:
            texts.append(json_event.write(_checked(event)))
        except InvalidEvent as fault:
            raise fault.at(index) from None
    return HttpMessage(
        [("content-type", f"{JSON_BATCH}; charset=utf-8")], b"[" + b",".join(texts) + b"]"
    )


def read_kafka(headers: Headers | None, value: bytes | None) -> Event:
    """Read the event of a Kafka record in binary or structured mode.

    The record may come from any producer. `headers` are pairs of name and bytes, as in Kafka
    clients. Raises `InvalidEvent`.

    >>> names = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/", "ce_type": b"t"}
    >>> read_kafka([*names.items()], b"data").data
    b'data'
    """
    headers = headers or ()
    for name, content_type in headers:
        if name.lower() == "content-type" and _is_structured(content_type):
            return _without_private(json_event.read(value or b""))
    record = kafka.normalise(StoredRecord("", 0, 0, 0, None, value, headers))
    return kafka.event(record.headers, record.value)


def write_kafka(event: Event, content_mode: ContentMode = ContentMode.BINARY) -> Record:
    """Write an event as a Kafka record. The key is the attribute `partitionkey`, if it is set.

    Raises `InvalidEvent`, and ValueError for batch mode, which the Kafka binding does not define.

    >>> attributes = {"specversion": "1.0", "id": "1", "source": "/", "type": "t"}
    >>> record = write_kafka(Event({**attributes, "partitionkey": "a"}, b"data"))
    >>> record.key, record.headers[0], record.value
    (b'a', ('ce_specversion', b'1.0'), b'data')
    """
    if content_mode is ContentMode.BATCH:
        raise ValueError("a Kafka record holds one event; write one record for each")
    public = _checked(event)
    record = kafka.record(public)
    if content_mode is ContentMode.BINARY:
        return record
    return Record(
        record.key, json_event.write(public), [("content-type", f"{JSON}; charset=utf-8".encode())]
    )


def _mode(pairs: Sequence[tuple[bytes, bytes]]) -> ContentMode:
    content_types = [value for name, value in pairs if name == b"content-type"]
    return mode(content_types[0]) if len(content_types) == 1 else ContentMode.BINARY


def _is_structured(content_type: bytes) -> bool:
    try:
        return mode(content_type) is ContentMode.STRUCTURED
    except (InvalidEvent, UnsupportedContent):
        return False


def _refuse_encodings(pairs: Sequence[tuple[bytes, bytes]]) -> None:
    names, values = zip(*pairs, strict=True)
    refuse_encodings(layouts[names], values)


def _lower(headers: HttpHeaders) -> Sequence[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(_bytes(name).lower(), _bytes(value)) for name, value in pairs]


def _bytes(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidEvent(
            None, "must have header values in ISO 8859-1; percent-encode other characters"
        ) from None


def _without_private(event: Event) -> Event:
    public = {name: value for name, value in event.attributes.items() if not is_private(name)}
    return Event(public, event.data)


def _checked(event: Event) -> Event:
    """Return the event without private attributes. Raises `InvalidEvent`."""
    public = _without_private(event)
    check(public.attributes)
    return public
