"""For any input only documented errors are raised, and what is accepted can be sent on safely."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from headrace.codec import http, json_event, kafka
from headrace.domain.event import BatchTooLarge, InvalidEvent, UnsupportedContent
from headrace.domain.record import Headers, Record
from tests.support import event_builders as build

_prefixes = st.sampled_from([b"ce-", b"ce-", b"CE-", b"headrace_", b"headrace-", b"knative-", b""])
_suffixes = st.sampled_from(
    [
        b"id",
        b"source",
        b"specversion",
        b"time",
        b"data",
        b"knativebrokerttl",
        b"partitionkey",
        b"",
        b"\xff",
        b"\n",
    ]
)
_others = st.sampled_from([b"content-type", b"content-encoding", b"traceparent"])
_names = st.builds(bytes.__add__, _prefixes, _suffixes) | _others
_values = st.sampled_from(
    [
        b"1.0",
        b"0.3",
        b"",
        b"/a",
        b"a",
        b"2020-01-01T00:00:00Z",
        b"application/json",
        b"application/cloudevents+json",
        b"gzip",
    ]
)
_content_types = st.sampled_from(
    [b"application/cloudevents+json", b"application/cloudevents-batch+json", b"text/plain"]
)
_headers = st.lists(
    st.tuples(_names | st.binary(max_size=12), _values | st.binary(max_size=24)), max_size=12
)
_words = st.sampled_from(
    [
        "null",
        "NaN",
        "true",
        "\\ud800",
        '"data":',
        '"data_base64":',
        '"time":',
        '"id":"1"',
        '"specversion":"1.0"',
        '"type":"t"',
    ]
)
_json_scraps = st.lists(_words | st.text('{}[],:"\\ 1-.e\x00ü', max_size=2), max_size=24).map(
    lambda parts: "".join(parts).encode()
)
_bodies = (
    st.binary(max_size=64)
    | _json_scraps
    | _json_scraps.map(
        lambda scrap: b'{"specversion":"1.0","id":"1","source":"/s","type":"t",' + scrap + b"}"
    )
)


def check(record: Record) -> None:
    """A record from outside: it has no private headers, its size is counted correctly, and it is
    written as whole header lines that are read the same again.
    """
    assert record.size == Record(record.key, record.value, record.headers).size
    assert not any(
        name.startswith("headrace") or name == "ce_knativebrokerttl" for name, _ in record.headers
    )
    stored = build.stored(record.headers, record.value, key=record.key)
    assert stored is kafka.normalise(stored)
    again = http.read_binary(
        build.request_of(http.write_binary(record.headers)), record.value or b"", None
    )
    assert kafka.attributes(record.headers) == kafka.attributes(again.headers)
    assert record.key == again.key


@build.seeded
@given(_headers, _bodies)
def test_read_raises_only_what_it_declares(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Arbitrary headers and bodies."""
    with suppress(InvalidEvent, BatchTooLarge, UnsupportedContent):
        for record in http.read(headers, body, arrival=build.ARRIVAL, events_max=3):
            check(record)


@build.seeded
@given(_headers, _bodies)
def test_nearly_valid_requests_raise_only_what_is_declared(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """A valid binary event with anything beside it."""
    with suppress(InvalidEvent, UnsupportedContent):
        check(http.read_binary([*build.http_headers(None), *headers], body, build.ARRIVAL))


@build.seeded
@given(_content_types, _bodies)
def test_structured_requests_raise_only_what_is_declared(content_type: bytes, body: bytes) -> None:
    """Arbitrary text where an event or a batch should be."""
    for text in (body, b"[" + body + b"]"):
        with suppress(InvalidEvent, BatchTooLarge):
            for record in http.read(
                [(b"content-type", content_type)], text, arrival=build.ARRIVAL, events_max=3
            ):
                check(record)


@build.seeded
@given(st.integers(100, 599), _headers, _bodies)
def test_replies_raise_only_invalid_event(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """A subscriber can answer with any bytes."""
    with suppress(InvalidEvent):
        reply = http.read_reply(status, headers, body, arrival=build.ARRIVAL)
        if reply is not None:
            check(reply)


@build.seeded
@given(_bodies | _json_scraps)
def test_the_json_format_raises_only_invalid_event(text: bytes) -> None:
    """One event or a batch."""
    with suppress(InvalidEvent):
        event = json_event.read(text)
        assert event == json_event.read(json_event.write(event))
    with suppress(InvalidEvent, BatchTooLarge):
        json_event.read_batch(text, 2)


_record_names = _names.map(lambda name: name.decode("latin-1").replace("ce-", "ce_")) | st.text(
    max_size=12
)


@build.seeded
@given(
    st.lists(st.tuples(_record_names, _values | st.binary(max_size=24)), max_size=12),
    _bodies | st.none(),
)
def test_foreign_records_raise_only_invalid_event(headers: Headers, value: bytes | None) -> None:
    """A topic can hold any record; what is written from it is whole header lines."""
    build.parse_lines(http.write_binary(headers))
    with suppress(InvalidEvent):
        build.parse_lines(http.write_structured(headers, value)[0])
    with suppress(InvalidEvent):
        record = kafka.normalise(build.stored(headers, value))
        kafka.attributes(record.headers)
        build.parse_lines(http.write_binary(record.headers))
        http.write_structured(record.headers, record.value)
