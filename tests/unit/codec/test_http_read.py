"""Reading binary requests into records: what is mapped, what is dropped, and what is refused."""

import pytest

from headrace.codec import http
from headrace.codec.http_binary import layouts
from headrace.domain.event import InvalidEvent, UnsupportedContent
from headrace.domain.record import Record
from tests.support import event_builders as build

BODY = b'{"n": 1e400, "a":1}'


def read(headers: list[tuple[bytes, bytes]], body: bytes = BODY) -> Record:
    """Return the record of a request, which must be the same from `read` and `read_binary`."""
    (record,) = http.read(headers, body, arrival=build.ARRIVAL)
    assert record == http.read_binary(headers, body, build.ARRIVAL)
    return record


def refused(headers: list[tuple[bytes, bytes]], body: bytes = BODY) -> InvalidEvent:
    """Return the error for a request that is not an event."""
    with pytest.raises(InvalidEvent) as caught:
        http.read(headers, body, arrival=build.ARRIVAL)
    with pytest.raises(InvalidEvent):
        http.read_binary(headers, body, build.ARRIVAL)
    return caught.value


def test_a_binary_request_becomes_a_binary_record() -> None:
    """The headers are the attributes in order (`ce_`), the content type and the arrival time.

    The value is exactly the body.
    """
    expected = Record(
        None,
        BODY,
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1234-1234"),
            ("ce_source", b"/mycontext/subcontext"),
            ("ce_type", b"com.example.someevent"),
            ("content-type", b"application/json"),
            ("ce_knativearrivaltime", build.ARRIVAL),
        ],
    )
    assert expected == read(build.http_headers())


def test_an_empty_body_is_no_data() -> None:
    """A record without data has no value (Kafka binding 3.2.2)."""
    assert read(build.http_headers(), b"").value is None


def test_the_partition_key_becomes_the_key() -> None:
    """The key is the decoded value, and the attribute is kept."""
    record = read(build.http_headers(partitionkey=b"k%C3%B6"))
    assert "kö".encode() == record.key
    assert ("ce_partitionkey", "kö".encode()) in record.headers
    assert "€".encode() * 341 == read(build.http_headers(partitionkey=b"%E2%82%AC" * 341)).key


def test_an_arrival_time_that_came_along_is_kept() -> None:
    """It says when the event first arrived, not when it arrived here."""
    headers = read(build.http_headers(knativearrivaltime=b"2020-01-01T00:00:00Z")).headers
    assert [b"2020-01-01T00:00:00Z"] == [
        value for name, value in headers if name == "ce_knativearrivaltime"
    ]


def test_values_are_decoded_once() -> None:
    """Record headers contain UTF-8 text without HTTP encoding."""
    headers = dict(
        read(
            build.http_headers(
                subject=b"Euro%20%E2%82%AC%20%2541", ext=b'"a b"', raw="ü".encode(), empty=b""
            )
        ).headers
    )
    assert "Euro € %41".encode() == headers["ce_subject"]
    assert b"a b" == headers["ce_ext"]
    assert "ü".encode() == headers["ce_raw"]
    assert b"" == headers["ce_empty"]


def test_carried_headers_travel_and_others_do_not() -> None:
    """Trace context and Knative headers are passed on.

    Credentials, message framing and values that could break a header line are dropped.
    """
    extra = [
        (b"traceparent", b"00-abc-def-01"),
        (b"tracestate", b'a="1"'),
        (b"tracestate", b"b=2"),
        (b"knative-history", b" x "),
        (b"x-b3-sampled", b"1\x01"),
        (b"authorization", b"Bearer secret"),
        (b"cookie", b"secret"),
        (b"content-length", b"9"),
    ]
    headers = list(read([*extra, *build.http_headers()]).headers)
    assert [
        ("traceparent", b"00-abc-def-01"),
        ("tracestate", b'a="1"'),
        ("tracestate", b"b=2"),
        ("knative-history", b"x"),
    ] == headers[-4:]
    assert not any(b"secret" in value for _, value in headers)
    assert 10 == len(headers)


@pytest.mark.parametrize(
    "name",
    [
        b"headrace_attempt",
        b"headrace-attempt",
        b"headrace_due",
        b"ce-knativebrokerttl",
        b"ce-headracehops",
    ],
)
def test_private_names_are_dropped_at_the_door(name: bytes) -> None:
    """A client cannot set an attempt count or a hop count.

    Private names are always dropped; the request is not refused.
    """
    assert read(build.http_headers()) == read([*build.http_headers(), (name, b"7")])


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
@pytest.mark.parametrize("value", [None, b"", b" ", b'""'])
def test_required_attributes_are_named(name: str, value: bytes | None) -> None:
    """Missing and empty values are refused alike, in every notation of an empty value."""
    assert name == refused(build.http_headers(**{name: value})).attribute


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", b"1.1"),
        ("specversion", b"2.0"),
        ("specversion", b"%201.0"),
        ("ext", b"%C0%A0"),
        ("ext", b"%00"),
        ("ext", b"%0d%0aevil: 1"),
        ("ext", b"%C2%80"),
        ("ext", b"%EF%BF%BF"),
        ("ext", b"%ED%A0%80"),
        ("ext", b"\xff"),
        ("ext", b"a\tb"),
        ("ext", b"50%"),
        ("ext", b"x" * 8_193),
        ("subject", b""),
        ("time", b"yesterday"),
        ("time", b"2018-02-30T00:00:00Z"),
        ("time", b""),
        ("source", b"a%20b"),
        ("source", b"1:2"),
        ("dataschema", b"/relative"),
        ("partitionkey", b""),
        ("partitionkey", b"k" * 1_025),
        ("knativearrivaltime", b"now"),
        ("datacontenttype", b"application/json"),
        ("data", b"x"),
        ("data_base64", b"x"),
        ("my-ext", b"x"),
        ("x" * 65, b"x"),
        ("", b"x"),
    ],
)
def test_a_bad_attribute_is_named(name: str, value: bytes) -> None:
    """Covers every rule of the type system and of the single attributes."""
    assert name == refused(build.http_headers(**{name: value})).attribute


def test_a_repeated_attribute_is_refused() -> None:
    """Joining the values with a comma would create a value that the client did not send."""
    assert "ext" == refused([*build.http_headers(ext=b"1"), (b"ce-ext", b"2")]).attribute
    assert "id" == refused([*build.http_headers(), (b"ce-id", b"1234-1234")]).attribute


@pytest.mark.parametrize("content_type", [b"", b"json", b"a/b\x01"])
def test_the_content_type_must_be_one(content_type: bytes) -> None:
    """Content-Type must be a single media type, because it becomes `datacontenttype`."""
    assert "datacontenttype" == refused(build.http_headers(content_type)).attribute
    assert (
        "datacontenttype"
        == refused([*build.http_headers(), (b"content-type", b"text/plain")]).attribute
    )


def test_no_content_type_is_fine() -> None:
    """`datacontenttype` is optional."""
    assert "content-type" not in dict(read(build.http_headers(None)).headers)


@pytest.mark.parametrize("value", [b"gzip", b"br", b"identity, gzip", b"x"])
def test_compressed_bodies_are_unsupported(value: bytes) -> None:
    """The size of a compressed body would have to be limited before and after decompression."""
    for headers in (build.http_headers(), [(b"content-type", b"application/cloudevents+json")]):
        with pytest.raises(UnsupportedContent, match="identity"):
            http.read([*headers, (b"content-encoding", value)], BODY, arrival=None)


def test_identity_is_no_coding() -> None:
    """`Content-Encoding: identity` has no effect."""
    assert read(build.http_headers()) == read(
        [*build.http_headers(), (b"content-encoding", b"Identity")]
    )


@pytest.mark.parametrize(
    "headers", [[], [(b"host", b"a")], [(b"content-type", b"application/json")]]
)
def test_an_ordinary_request_is_no_event(headers: list[tuple[bytes, bytes]]) -> None:
    """A request without the required attributes is refused."""
    assert "specversion" == refused(headers).attribute


def test_0_3_stays_0_3() -> None:
    """Attributes of version 0.3 are checked by its own rules and passed on unchanged."""
    headers = build.http_headers(
        specversion=b"0.3", schemaurl=b"/schema", datacontentencoding=b"base64"
    )
    record = dict(read(headers).headers)
    assert b"0.3" == record["ce_specversion"]
    assert b"/schema" == record["ce_schemaurl"]
    assert (
        "schemaurl" == refused(build.http_headers(specversion=b"0.3", schemaurl=b"a%20b")).attribute
    )


def test_too_many_attributes_are_refused() -> None:
    """The number of attributes and their total size are limited."""
    many = {f"a{number}": b"x" for number in range(125)}
    assert "128 attributes" in str(refused(build.http_headers(**many)))
    large = {f"a{number}": b"x" * 8_000 for number in range(9)}
    assert "65536 bytes" in str(refused(build.http_headers(**large)))


def test_what_is_remembered_of_header_names_is_bounded() -> None:
    """New header names in every request cost time, but no memory."""
    for number in range(2_000):
        read(
            [
                *build.http_headers(**{f"ext{number}": b"x", "source": b"/s/%d" % number}),
                (b"x-%d" % number, b""),
            ]
        )
    assert 512 >= len(layouts)


@pytest.mark.parametrize("batch", [b"[]", b"[{}]"])
def test_read_binary_takes_no_batch(batch: bytes) -> None:
    """It returns exactly one record."""
    with pytest.raises(InvalidEvent, match="batch"):
        http.read_binary(
            build.http_headers(b"application/cloudevents-batch+json"), batch, build.ARRIVAL
        )
