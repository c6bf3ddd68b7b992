"""Structured requests and batches are read into the same records as binary requests."""

import json

import pytest

from headrace.codec import http
from headrace.domain.event import BatchTooLarge, InvalidEvent
from headrace.domain.record import Record
from tests.support import event_builders as build

STRUCTURED = [(b"content-type", b"application/cloudevents+json; charset=utf-8")]
BATCH = [(b"content-type", b"application/cloudevents-batch+json")]


def text(**members: object) -> bytes:
    """Return an event in the JSON format."""
    return json.dumps({**build.REQUIRED, **members}).encode()


def read(body: bytes, *more: tuple[bytes, bytes]) -> Record:
    """Return the record of a structured request."""
    (record,) = http.read([*STRUCTURED, *more], body, arrival=build.ARRIVAL)
    return record


def test_a_structured_request_becomes_a_binary_record() -> None:
    """It has canonical strings, the implied content type, and exactly the bytes of the data."""
    body = (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","b":true,"i":-5,"n":null,"data":'
        b' {"n": 1e400,  "n2":[ ]} }'
    )
    expected = Record(
        None,
        b'{"n": 1e400,  "n2":[ ]}',
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", b"/s"),
            ("ce_type", b"t"),
            ("ce_b", b"true"),
            ("ce_i", b"-5"),
            ("content-type", b"application/json"),
            ("ce_knativearrivaltime", build.ARRIVAL),
        ],
    )
    assert expected == read(body)


def test_stray_attribute_headers_do_not_count() -> None:
    """The content type decides: a structured event is entirely in the body."""
    assert read(text()) == read(
        text(), (b"ce-specversion", b"9"), (b"ce-id", b""), (b"ce-my_ext", b"\xff")
    )
    assert read(text()) == http.read_binary(
        [*STRUCTURED, (b"ce-specversion", b"1.0")], text(), build.ARRIVAL
    )


def test_carried_headers_travel() -> None:
    """Passthrough headers are treated as in binary mode."""
    assert ("traceparent", b"00-a-b-01") in read(
        text(), (b"traceparent", b"00-a-b-01"), (b"cookie", b"x")
    ).headers


def test_the_key_and_private_attributes_follow_the_binary_rules() -> None:
    """`partitionkey` becomes the key; a hop count from outside is dropped."""
    record = read(text(partitionkey="k", knativebrokerttl=255, headracehops="1"))
    assert b"k" == record.key
    assert {
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_partitionkey",
        "ce_knativearrivaltime",
    } == {name for name, _ in record.headers}


def test_an_arrival_time_that_came_along_is_kept() -> None:
    """The rule is the same as in binary mode."""
    assert ("ce_knativearrivaltime", b"2020-01-01T00:00:00Z") in read(
        text(knativearrivaltime="2020-01-01T00:00:00Z")
    ).headers


def test_a_batch_becomes_its_records_in_order() -> None:
    """Each record has its own attributes, and all have the passthrough headers of the request."""
    body = b"[" + b",".join(text(id=str(number), data=number) for number in range(3)) + b"]"
    records = http.read([*BATCH, (b"x-request-id", b"r")], body, arrival=build.ARRIVAL)
    assert [b"0", b"1", b"2"] == [dict(record.headers)["ce_id"] for record in records]
    assert [b"0", b"1", b"2"] == [record.value for record in records]
    assert all(("x-request-id", b"r") in record.headers for record in records)


def test_a_batch_may_be_empty() -> None:
    """HTTP binding 3.3.2."""
    assert [] == http.read(BATCH, b" [ ] ", arrival=build.ARRIVAL)


def test_a_bad_event_of_a_batch_is_named_by_its_index() -> None:
    """No event of the batch is accepted."""
    with pytest.raises(InvalidEvent, match="event 1 of the batch") as refused:
        http.read(BATCH, b"[" + text() + b"," + text(time="x") + b"]", arrival=build.ARRIVAL)
    assert (1, "time") == (refused.value.index, refused.value.attribute)


def test_a_batch_is_counted_before_it_is_read() -> None:
    """A batch that is too large is refused as such, even if events after the limit are invalid."""
    body = b"[" + b",".join([text()] * 3 + [b"garbage"] * 10_000) + b"]"
    with pytest.raises(BatchTooLarge, match="at most 3"):
        http.read(BATCH, body, arrival=build.ARRIVAL, events_max=3)
