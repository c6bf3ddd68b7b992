"""Events from records of Kafka: CloudEvents are passed through, all others are wrapped."""

import base64
import struct

import pytest

from headrace.domain.attributes import check
from headrace.domain.event import Event, Value
from headrace.domain.record import Headers, StoredRecord
from headrace_sources.adapters.kafka_events import EVENT_TYPE, KeyType, RecordReader

SOURCE = "/apis/v1/namespaces/shop/kafkasources/tills"
REQUIRED = (("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/s"), ("ce_type", b"t"))


def record(
    headers: Headers = (),
    key: bytes | None = None,
    value: bytes | None = b"{}",
    timestamp_ms: int = 1_700_000_000_042,
) -> StoredRecord:
    """A record at partition 3, offset 17 of the topic `orders`."""
    return StoredRecord("orders", 3, 17, timestamp_ms, key, value, headers)


def event(given: StoredRecord, key_type: KeyType = KeyType.STRING) -> Event:
    """Its event, which must be valid."""
    found = RecordReader(SOURCE, key_type).event(given)
    check(found.attributes)
    return found


def test_attributes_of_a_record_that_is_no_event() -> None:
    """As Knative wraps it."""
    assert event(record(key=b"till-4")) == Event(
        {
            "specversion": "1.0",
            "id": "partition:3/offset:17",
            "source": f"{SOURCE}#orders",
            "type": EVENT_TYPE,
            "subject": "partition:3#17",
            "time": "2023-11-14T22:13:20.042Z",
            "key": "till-4",
            "partitionkey": "till-4",
        },
        b"{}",
    )


def test_a_record_without_key_time_and_value() -> None:
    """It has no attributes for them."""
    found = event(record(value=None, timestamp_ms=-1))
    assert not {"key", "partitionkey", "time"} & set(found.attributes)
    assert found.data is None


KEYS: tuple[tuple[KeyType, bytes, Value], ...] = (
    (KeyType.STRING, "café".encode(), "café"),
    (KeyType.STRING, b"\xff\xfe", "//4="),
    (KeyType.STRING, b"a\x00b", base64.b64encode(b"a\x00b").decode()),
    (KeyType.STRING, b"", ""),
    (KeyType.INT, struct.pack(">i", -5), -5),
    (KeyType.INT, b"12345", "12345"),
    (KeyType.FLOAT, struct.pack(">f", 1.1), "1.1"),
    (KeyType.FLOAT, struct.pack(">f", 16777216.0), "16777216"),
    (KeyType.FLOAT, struct.pack(">f", float("nan")), "nan"),
    (KeyType.FLOAT, struct.pack(">d", 1.1), "1.1"),
    (KeyType.FLOAT, b"abc", "abc"),
    (KeyType.BYTE_ARRAY, b"abc", "YWJj"),
)


@pytest.mark.parametrize(("key_type", "key", "expected"), KEYS)
def test_keys_by_type(key_type: KeyType, key: bytes, expected: Value) -> None:
    """A key that has not the length of its type is a string, as in Knative."""
    found = event(record(key=key), key_type).attributes
    assert found["key"] == expected
    assert found.get("partitionkey") == (str(expected) or None)


def test_long_keys_keep_the_order() -> None:
    """A key that is too long for `partitionkey` is replaced by its hash."""
    first, again = (event(record(key=b"a" * 2_000)).attributes for _ in range(2))
    other = event(record(key=b"b" * 9_000)).attributes
    assert first["key"] == "a" * 2_000
    assert "key" not in other
    assert first["partitionkey"] == again["partitionkey"] != other["partitionkey"]


def test_headers_are_extensions() -> None:
    """With a prefix, letters and digits of their names, and base64 for bytes that are no text."""
    headers = (
        ("Trace-Id", b"abc"),
        ("raw", b"\xff\x00"),
        ("x" * 70, b"left out: the name is too long"),
        ("content-type", b"application/json"),
    )
    found = event(record(headers)).attributes
    names = {name: value for name, value in found.items() if name.startswith("kafkaheader")}
    assert names == {
        "kafkaheadertraceid": "abc",
        "kafkaheaderraw": "/wA=",
        "kafkaheadercontenttype": "application/json",
    }
    assert found["datacontenttype"] == "application/json"


def test_many_and_large_headers_stay_within_the_limits() -> None:
    """The event is valid all the same, and its data complete."""
    many = tuple((f"h{number}", b"v") for number in range(300))
    large = tuple((f"h{number}", b"v" * 2_000) for number in range(90))
    for headers in (many, large):
        found = event(record(headers))
        assert found.data == b"{}"
        assert found.attributes["kafkaheaderh0"]


def test_events_in_binary_mode_are_passed_through() -> None:
    """Nothing is added to them."""
    headers = (*REQUIRED, ("ce_team", b"red"), ("content-type", b"text/plain"))
    assert event(record(headers, key=b"k")) == Event(
        {
            "specversion": "1.0",
            "id": "7",
            "source": "/s",
            "type": "t",
            "team": "red",
            "datacontenttype": "text/plain",
        },
        b"{}",
    )


def test_events_in_structured_mode_are_passed_through() -> None:
    """They are sent in binary mode."""
    text = b'{"specversion":"1.0","id":"8","source":"/s","type":"t","data":{"n":1}}'
    found = event(record((("content-type", b"application/cloudevents+json"),), value=text))
    assert found.attributes["id"] == "8"
    assert found.data == b'{"n":1}'


BROKEN: tuple[tuple[Headers, bytes], ...] = (
    (REQUIRED[:3], b"{}"),
    ((*REQUIRED, ("ce_time", b"yesterday")), b"{}"),
    ((("ce_specversion", b"9.0"), *REQUIRED[1:]), b"{}"),
    ((*REQUIRED[:3], ("ce_type", b"\xff")), b"{}"),
    ((("content-type", b"application/cloudevents+json"),), b"not JSON"),
    ((("content-type", b"application/cloudevents-batch+json"),), b"[]"),
)


@pytest.mark.parametrize(("headers", "value"), BROKEN)
def test_records_that_only_look_like_events_are_wrapped(headers: Headers, value: bytes) -> None:
    """Nothing that was written is lost for its form."""
    found = event(record(headers, value=value))
    assert (found.attributes["type"], found.data) == (EVENT_TYPE, value)
