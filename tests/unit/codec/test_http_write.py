"""Writing records as requests: header lines in binary mode, JSON in structured mode."""

import json

import pytest

from headrace.codec import http
from headrace.domain.event import InvalidEvent
from tests.support import event_builders as build

CONTENT = ("content-type", b"application/json")


def test_write_binary_writes_one_line_per_attribute() -> None:
    """Attributes, content type and passthrough headers are written; private headers are not."""
    headers = build.record_headers(
        CONTENT, ("traceparent", b"00-a-b-01"), ("headrace_attempt", b"3"), ("x-other", b"y")
    )
    expected = (
        b"ce-specversion: 1.0\r\nce-id: 1234-1234\r\nce-source: /mycontext/subcontext\r\nce-type:"
        b" com.example.someevent\r\ncontent-type: application/json\r\ntraceparent: 00-a-b-01\r\n"
    )
    assert expected == http.write_binary(headers)


def test_write_binary_encodes_values() -> None:
    """The characters that the HTTP binding names are encoded, from the UTF-8 of the record."""
    lines = http.write_binary(build.record_headers(subject='Euro € "100%"'.encode(), empty=b""))
    assert b"ce-subject: Euro%20%E2%82%AC%20%22100%25%22\r\nce-empty: \r\n" in lines


def test_nothing_in_a_record_can_add_a_line() -> None:
    """Records of other producers may contain anything.

    Values are encoded or left out, and invalid names are left out.
    """
    evil = b"x\r\nHost: evil\r\n\r\n"
    headers = build.record_headers(
        ("content-type", evil),
        ("traceparent", evil),
        ("knative-a", b"fine"),
        ("ce_a b\r\nc", b"x"),
        ("knative-\r\nx", b"x"),
        subject=evil,
    )
    pairs = build.parse_lines(http.write_binary(headers))
    assert [b"ce-specversion", b"ce-id", b"ce-source", b"ce-type", b"ce-subject", b"knative-a"] == [
        name for name, _ in pairs
    ]
    assert b"x%0D%0AHost:%20evil%0D%0A%0D%0A" == dict(pairs)[b"ce-subject"]
    lines, _ = http.write_structured(
        [("traceparent", evil), ("knative-a", b"fine"), *build.record_headers()], None
    )
    assert [b"content-type", b"knative-a"] == [name for name, _ in build.parse_lines(lines)]


def test_private_attributes_are_not_sent() -> None:
    """A hop count that another broker wrote to the topic is dropped."""
    headers = build.record_headers(knativebrokerttl=b"255", headracehops=b"1")
    assert http.write_binary(build.record_headers()) == http.write_binary(headers)
    assert http.write_structured(build.record_headers(), None) == http.write_structured(
        headers, None
    )


@pytest.mark.parametrize("headers", [[], [("headrace_attempt", b"1")], [("connect", b"1")]])
def test_a_record_without_attributes_gives_no_lines(headers: list[tuple[str, bytes]]) -> None:
    """The result is empty, and no exception is raised."""
    assert b"" == http.write_binary(headers)


def test_the_last_of_repeated_headers_counts() -> None:
    """Kafka clients read them in the same way: an extension that is set again has the new value."""
    headers = [*build.record_headers(knativeerrorcode=b"500"), ("ce_knativeerrorcode", b"503")]
    assert [b"503"] == [
        value
        for name, value in build.parse_lines(http.write_binary(headers))
        if name == b"ce-knativeerrorcode"
    ]


def test_write_structured_embeds_json_byte_for_byte() -> None:
    """Digits, order and spaces of the data do not change."""
    lines, body = http.write_structured(
        build.record_headers(CONTENT, ("x-request-id", b"r")), b'{"n": 1e400, "b":1 ,"a":[ ]}'
    )
    assert (
        b"content-type: application/cloudevents+json; charset=utf-8\r\nx-request-id: r\r\n" == lines
    )
    assert body.endswith(
        b',"datacontenttype":"application/json","data":{"n": 1e400, "b":1 ,"a":[ ]}}'
    )
    assert "com.example.someevent" == json.loads(body)["type"]


@pytest.mark.parametrize(
    ("content_type", "value", "member", "expected"),
    [
        (b"text/plain", "ü\n".encode(), "data", "ü\n"),
        (b"application/xml; charset=utf-8", b'<a b="c"/>', "data", '<a b="c"/>'),
        (b"text/plain", b"\xff", "data_base64", "/w=="),
        (b"text/plain; charset=iso-8859-1", b"\xfc", "data_base64", "/A=="),
        (b"application/octet-stream", b"abc", "data_base64", "YWJj"),
        (b"application/json", b"{broken", "data_base64", "e2Jyb2tlbg=="),
        (b"application/json", b"NaN", "data_base64", "TmFO"),
        (b"application/json", b'{"a":1,"a":2}', "data_base64", "eyJhIjoxLCJhIjoyfQ=="),
        (None, b"{}", "data_base64", "e30="),
    ],
)
def test_write_structured_keeps_the_bytes_of_any_data(
    content_type: bytes | None, value: bytes, member: str, expected: str
) -> None:
    """Text is written as a string; data that might not be read back unchanged, in base64."""
    headers = (
        build.record_headers()
        if content_type is None
        else build.record_headers(("content-type", content_type))
    )
    _, body = http.write_structured(headers, value)
    assert expected == json.loads(body)[member]
    (again,) = http.read([(b"content-type", b"application/cloudevents+json")], body, arrival=None)
    assert value == again.value


def test_write_structured_writes_0_3_as_0_3() -> None:
    """Binary data is written to `data` and marked with `datacontentencoding`.

    Data that is already base64 text is not encoded again.
    """
    headers = build.record_headers(
        ("content-type", b"image/png"), specversion=b"0.3", schemaurl=b"/s"
    )
    _, body = http.write_structured(headers, b"\xff")
    members = json.loads(body)
    assert ("0.3", "/s", "base64", "/w==") == tuple(
        members[name] for name in ("specversion", "schemaurl", "datacontentencoding", "data")
    )
    _, body = http.write_structured([*headers, ("ce_datacontentencoding", b"base64")], b"/w==")
    assert members == json.loads(body)


def test_write_structured_without_data_has_no_data() -> None:
    """An event without data is not written with null data."""
    _, body = http.write_structured(build.record_headers(), None)
    assert dict(build.REQUIRED) == json.loads(body)


def test_write_structured_refuses_what_is_no_text() -> None:
    """A value that is not UTF-8 has no JSON form. `normalise` refuses such records earlier."""
    with pytest.raises(InvalidEvent, match="UTF-8"):
        http.write_structured(build.record_headers(ext=b"\xff"), None)
