"""Events over HTTP and Kafka through the public functions, in every content mode."""

from collections.abc import Callable

import pytest

from headrace.cloudevents import (
    BatchTooLarge,
    ContentMode,
    Event,
    HttpHeaders,
    InvalidEvent,
    UnsupportedContent,
    Value,
    read_http,
    read_http_batch,
    read_kafka,
    write_http,
    write_http_batch,
    write_kafka,
)

REQUIRED: dict[str, Value] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "order.created",
}
ORDER = Event(
    {**REQUIRED, "subject": "Zoë 100%", "datacontenttype": "application/json"}, b'{"a": 1}'
)
BATCH = {"content-type": "application/cloudevents-batch+json"}


@pytest.mark.parametrize("mode", [ContentMode.BINARY, ContentMode.STRUCTURED])
def test_an_event_comes_back_from_http_as_it_was(mode: ContentMode) -> None:
    """Percent signs, other alphabets and the bytes of JSON data included."""
    message = write_http(ORDER, mode)
    assert ORDER == read_http(message.headers, message.body)
    assert [ORDER] == read_http_batch(message.headers, message.body)


@pytest.mark.parametrize("mode", [ContentMode.BINARY, ContentMode.STRUCTURED])
def test_an_event_comes_back_from_kafka_as_it_was(mode: ContentMode) -> None:
    """With `partitionkey` as the record's key in both modes."""
    event = Event({**ORDER.attributes, "partitionkey": "customer-7"}, ORDER.data)
    record = write_kafka(event, mode)
    assert b"customer-7" == record.key
    assert event == read_kafka(record.headers, record.value)


def test_a_batch_comes_back_as_it_was() -> None:
    """In order; an empty one too."""
    events = [ORDER, Event(REQUIRED), Event({**REQUIRED, "id": "2"}, b"\x00\xff")]
    message = write_http_batch(events)
    assert events == read_http_batch(message.headers, message.body)
    assert [] == read_http_batch(*write_http_batch([]))


def test_binary_headers_are_those_of_the_binding() -> None:
    """Names in lower case, values percent-encoded, the content type that of the data."""
    message = write_http(ORDER)
    assert ("ce-subject", "Zo%C3%AB%20100%25") in message.headers
    assert ("content-type", "application/json") in message.headers
    assert ORDER.data == message.body


def test_integers_and_booleans_keep_their_type_in_structured_mode() -> None:
    """In binary mode they become text, as there is nothing that says what they were."""
    event = Event({**REQUIRED, "count": 3, "urgent": True})
    for message in (write_http(event, ContentMode.STRUCTURED), write_http_batch([event])):
        assert [event] == read_http_batch(message.headers, message.body)
    record = write_kafka(event, ContentMode.STRUCTURED)
    assert event == read_kafka(record.headers, record.value)
    message = write_http(event)
    as_text = {**REQUIRED, "count": "3", "urgent": "true"}
    assert Event(as_text) == read_http(message.headers, message.body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Ce-Specversion": "1.0", "CE-ID": "1", "ce-Source": "/shop", "ce-type": "order.created"},
        [
            (b"ce-specversion", b"1.0"),
            (b"ce-id", b"1"),
            (b"ce-source", b"/shop"),
            (b"Ce-Type", b"order.created"),
        ],
    ],
    ids=["mapping", "pairs of bytes"],
)
def test_headers_come_in_any_shape_and_case(headers: HttpHeaders) -> None:
    """As web frameworks have them."""
    assert Event(REQUIRED) == read_http(headers, b"")


def test_private_attributes_are_dropped_in_both_directions() -> None:
    """They belong to brokers, not to events."""
    event = Event({**REQUIRED, "knativebrokerttl": 5, "headraceattempt": "1"})
    assert {name for name, _ in write_http(event).headers} == {f"ce-{name}" for name in REQUIRED}
    assert b"knativebrokerttl" not in write_http_batch([event]).body
    headers = {f"ce-{name}": str(value) for name, value in event.attributes.items()}
    assert Event(REQUIRED) == read_http(headers, b"")
    body = b'{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","headracex":"1"}'
    structured = "application/cloudevents+json"
    assert Event(REQUIRED) == read_http({"content-type": structured}, body)
    assert Event(REQUIRED) == read_kafka([("content-type", structured.encode())], body)


@pytest.mark.parametrize(
    "write",
    [write_http, lambda event: write_http_batch([event]), write_kafka],
    ids=["http", "batch", "kafka"],
)
def test_no_invalid_event_is_written(write: Callable[[Event], object]) -> None:
    """A line break would start a header of its own."""
    for attributes, name in (
        ({"specversion": "1.0"}, "id"),
        ({**REQUIRED, "subject": "a\r\nx: b"}, "subject"),
        ({**REQUIRED, "Bad-Name": "a"}, "Bad-Name"),
    ):
        with pytest.raises(InvalidEvent) as raised:
            write(Event(attributes))
        assert name == raised.value.attribute


def test_a_batch_names_the_bad_event() -> None:
    """Of those that are read and of those that are written."""
    with pytest.raises(InvalidEvent) as raised:
        write_http_batch([ORDER, Event({"specversion": "1.0"})])
    assert 1 == raised.value.index
    with pytest.raises(InvalidEvent) as raised:
        read_http_batch(BATCH, b'[{"specversion": "1.0"}]')
    assert 0 == raised.value.index


def test_a_batch_has_a_limit() -> None:
    """The caller's."""
    message = write_http_batch([ORDER, ORDER])
    with pytest.raises(BatchTooLarge):
        read_http_batch(message.headers, message.body, events_max=1)


def test_a_batch_is_not_one_event() -> None:
    """Neither for readers nor for writers of one."""
    with pytest.raises(InvalidEvent):
        read_http(BATCH, b"[]")
    with pytest.raises(InvalidEvent):
        read_kafka([("content-type", b"application/cloudevents-batch+json")], b"[]")
    for write in (write_http, write_kafka):
        with pytest.raises(ValueError, match="one event"):
            write(ORDER, ContentMode.BATCH)


@pytest.mark.parametrize("content_type", ["application/cloudevents+json", BATCH["content-type"]])
def test_compressed_bodies_are_refused(content_type: str) -> None:
    """By all readers, before they look at the body."""
    headers = {"content-type": content_type, "content-encoding": "gzip"}
    with pytest.raises(UnsupportedContent):
        read_http_batch(headers, b"\x1f\x8b")


def test_other_event_formats_are_refused() -> None:
    """Over HTTP as unsupported; a record is invalid."""
    avro = "application/cloudevents+avro"
    with pytest.raises(UnsupportedContent):
        read_http({"content-type": avro}, b"")
    with pytest.raises(InvalidEvent):
        read_kafka([("content-type", avro.encode())], b"")


def test_headers_beyond_latin_1_are_refused() -> None:
    """They cannot have come over HTTP."""
    with pytest.raises(InvalidEvent, match="percent-encode"):
        read_http({"ce-subject": "\u0142"}, b"")


def test_no_headers_are_no_event() -> None:
    """Neither over HTTP nor in Kafka, where clients give None."""
    with pytest.raises(InvalidEvent):
        read_http({}, b"")
    with pytest.raises(InvalidEvent):
        read_kafka(None, b"")
