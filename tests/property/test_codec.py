"""Laws of the codecs: every event is the same after a round trip through every format, and the fast
paths agree with the rules.
"""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.codec import http, json_event, kafka, percent
from headrace.codec.http_binary import HttpHeaders
from headrace.codec.json_text import is_valid
from headrace.domain import attributes
from headrace.domain.event import Event, InvalidEvent
from tests.support import event_builders as build

STRUCTURED = (b"content-type", b"application/cloudevents+json")
json_text = build.json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode())


@build.seeded
@given(build.events())
def test_generated_events_are_valid(event: Event) -> None:
    """The strategy and the rules agree on what a valid event is."""
    attributes.check(event.attributes)


@build.seeded
@given(build.events())
def test_kafka_round_trip(event: Event) -> None:
    """Event to record and back."""
    record = kafka.record(event)
    assert event == kafka.event(record.headers, record.value)
    stored = build.stored(record.headers, record.value)
    assert stored is kafka.normalise(stored)


@build.seeded
@given(build.events())
def test_http_binary_round_trip(event: Event) -> None:
    """Record to request and back: the same headers, the same bytes, the same key."""
    record = kafka.record(event)
    assert record == http.read_binary(
        build.request_of(http.write_binary(record.headers)), event.data or b"", None
    )


@build.seeded
@given(build.events())
def test_http_structured_round_trip(event: Event) -> None:
    """Record to structured request and back; only an implied content type may become explicit."""
    record = kafka.record(event)
    lines, body = http.write_structured(record.headers, record.value)
    (again,) = http.read(build.request_of(lines), body, arrival=None)
    assert (record.value, record.key, sorted(record.headers)) == (
        again.value,
        again.key,
        sorted(again.headers),
    )


@build.seeded
@given(build.events())
def test_kafka_structured_round_trip(event: Event) -> None:
    """Record to structured mode and back, as a reader of the topic does it."""
    record = kafka.record(event)
    written = kafka.structured(record)
    again = kafka.normalise(build.stored(written.headers, written.value, key=written.key))
    assert (record.value, record.key, sorted(record.headers)) == (
        again.value,
        again.key,
        sorted(again.headers),
    )


@build.seeded
@given(build.events(json_text))
def test_json_data_survives_every_format(event: Event) -> None:
    """HTTP binary, Kafka and JSON in sequence do not change the bytes."""
    (first,) = http.read(
        build.request_of(http.write_binary(kafka.record(event).headers)),
        event.data or b"",
        arrival=None,
    )
    lines, body = http.write_structured(first.headers, first.value)
    structured = build.stored(
        [(name.decode(), value) for name, value in build.parse_lines(lines)], body
    )
    assert event.data == kafka.normalise(structured).value


@build.seeded
@given(build.events(), st.sampled_from([True, False, 0, -1, 2**31 - 1, -(2**31)]))
def test_json_round_trip_keeps_types(event: Event, typed: int | bool) -> None:
    """A JSON number or boolean has the same type afterwards."""
    event = Event({**event.attributes, "typed": typed}, event.data)
    again = json_event.read(json_event.write(event))
    assert event == again
    assert type(typed) is type(again.attributes["typed"])


@build.seeded
@given(build.json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_data_is_the_slice_of_the_text(value: Any, indent: Any, ascii_only: bool) -> None:
    """However it was formatted."""
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    text = f'{{ "data" :\n{data}\t, {json.dumps(dict(build.REQUIRED))[1:]}'
    assert data.encode() == json_event.read(text.encode()).data


@build.seeded
@given(st.lists(build.events(json_text), max_size=4))
def test_batch_round_trip(events: list[Event]) -> None:
    """A batch contains its events one by one, if all have one version."""
    events = [Event({**event.attributes, "specversion": "1.0"}, event.data) for event in events]
    written = [json_event.write(event) for event in events]
    assert [json_event.read(text) for text in written] == json_event.read_batch(
        b"[" + b",".join(written) + b"]", 4
    )


@build.seeded
@given(st.binary(max_size=60))
def test_percent_encoding_is_visible_ascii_and_comes_back(value: bytes) -> None:
    """Any bytes give a safe header value; text is decoded unchanged."""
    encoded = percent.encode(value)
    assert not encoded.translate(None, percent.PLAIN + b"%")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return
    assert text == percent.decode(encoded)


@build.seeded
@given(st.text(max_size=40))
def test_the_ascii_shortcut_agrees_with_the_rule(text: str) -> None:
    """A binary request with this value is accepted exactly if the string rule allows it."""
    try:
        record = http.read_binary(
            build.http_headers(ext=percent.encode(text.encode("utf-8", "surrogatepass"))), b"", None
        )
    except InvalidEvent:
        assert attributes.string_fault(text) is not None
    else:
        assert attributes.string_fault(text) is None
        assert text.encode() == dict(record.headers)["ce_ext"]


@build.seeded
@given(st.text(max_size=30) | st.binary(max_size=30).map(lambda value: value.decode("latin-1")))
def test_strict_json_is_a_part_of_what_the_standard_library_reads(text: str) -> None:
    """Nothing is valid here that `json` rejects."""
    raw = text.encode("utf-8", "surrogatepass")
    if is_valid(raw):
        json.loads(raw)


@build.seeded
@given(build.json_values)
def test_what_the_standard_library_writes_is_strict_json(value: Any) -> None:
    """Dumped values have no duplicate names, no NaN and no lone surrogates."""
    assert is_valid(json.dumps(value).encode())


@build.seeded
@given(
    st.permutations(
        build.http_headers(subject=b"a%20b", time=b"2020-01-01T00:00:00Z", partitionkey=b"k")
    )
)
def test_the_order_of_headers_does_not_matter(headers: HttpHeaders) -> None:
    """The cached layouts of different orders mean the same event."""
    first = http.read_binary(
        build.http_headers(subject=b"a%20b", time=b"2020-01-01T00:00:00Z", partitionkey=b"k"),
        b"x",
        build.ARRIVAL,
    )
    record = http.read_binary(headers, b"x", build.ARRIVAL)
    assert (first.key, first.value, sorted(first.headers)) == (
        record.key,
        record.value,
        sorted(record.headers),
    )
