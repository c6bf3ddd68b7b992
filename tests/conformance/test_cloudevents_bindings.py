"""The HTTP and Kafka scenarios of the CloudEvents conformance suite (v0.4.1), and the examples of
the bindings.
"""

import json

import pytest

from headrace.codec import http, kafka
from headrace.domain.record import Record
from tests.support.event_builders import stored

ATTRIBUTES = {
    "specversion": "1.0",
    "id": "1234-1234-1234",
    "type": "com.example.someevent",
    "source": "/mycontext/subcontext",
    "time": "2018-04-05T03:56:24Z",
}
DATA = {"message": "Hello World!"}
BODY = json.dumps(DATA, indent=4).encode()
STRUCTURED = json.dumps(
    {**ATTRIBUTES, "datacontenttype": "application/json", "data": DATA}, indent=4
).encode()


def assert_is_the_event(record: Record, content_type: str) -> None:
    """Attributes and data of the scenario."""
    assert {**ATTRIBUTES, "datacontenttype": content_type} == kafka.attributes(record.headers)
    assert DATA == json.loads(record.value or b"")


@pytest.mark.clause("D1")
@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_http_binary_content_mode(content_type: str) -> None:
    """Attributes from `ce-` headers, `datacontenttype` from Content-Type, data from the body."""
    headers = [
        (b"host", b"example.com"),
        *((b"ce-" + name.encode(), value.encode()) for name, value in ATTRIBUTES.items()),
    ]
    (record,) = http.read(
        [*headers, (b"content-type", content_type.encode()), (b"content-length", b"33")],
        BODY,
        arrival=None,
    )
    assert_is_the_event(record, content_type)


@pytest.mark.clause("D1")
@pytest.mark.parametrize(
    "content_type",
    [b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-8"],
)
def test_http_structured_content_mode(content_type: bytes) -> None:
    """Everything from the body."""
    (record,) = http.read(
        [(b"host", b"example.com"), (b"content-type", content_type)], STRUCTURED, arrival=None
    )
    assert_is_the_event(record, "application/json")


def test_kafka_binary_content_mode() -> None:
    """Attributes from `ce_` headers, `datacontenttype` from content-type, data from the value."""
    headers = [
        *(("ce_" + name, value.encode()) for name, value in ATTRIBUTES.items()),
        ("content-type", b"application/json"),
    ]
    record = kafka.normalise(stored(headers, BODY))
    assert_is_the_event(Record(record.key, record.value, record.headers), "application/json")


@pytest.mark.parametrize(
    "content_type",
    [b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-8"],
)
def test_kafka_structured_content_mode(content_type: bytes) -> None:
    """Everything from the value."""
    record = kafka.normalise(stored([("content-type", content_type)], STRUCTURED))
    assert_is_the_event(Record(record.key, record.value, record.headers), "application/json")


def test_header_values_of_the_http_binding_example() -> None:
    """Section 3.1.3.2: the euro sign and the emoji, in both directions."""
    headers = [
        *(("ce_" + name, value.encode()) for name, value in ATTRIBUTES.items()),
        ("ce_example", "Euro € 😀".encode()),
    ]
    lines = http.write_binary(headers)
    assert b"ce-example: Euro%20%E2%82%AC%20%F0%9F%98%80\r\n" in lines
    (record,) = http.read(
        [
            (name, value)
            for name, value in (line.split(b": ", 1) for line in lines[:-2].split(b"\r\n"))
        ],
        b"",
        arrival=None,
    )
    assert "Euro € 😀" == kafka.attributes(record.headers)["example"]


@pytest.mark.parametrize(
    ("data", "content_type", "expected_type", "expected_body"),
    [
        (
            '"data_base64": "AAEC"',
            "application/vnd.apache.thrift.binary",
            "application/vnd.apache.thrift.binary",
            b"\x00\x01\x02",
        ),
        (
            '"data": "<much wow=\\"xml\\"/>"',
            "application/xml",
            "application/xml",
            b'<much wow="xml"/>',
        ),
        (
            '"data": {\n "appinfoA" : "abc"\n}',
            "application/json",
            "application/json",
            b'{\n "appinfoA" : "abc"\n}',
        ),
        ('"data": "I\'m just a string"', None, "application/json", b'"I\'m just a string"'),
    ],
)
def test_examples_of_the_json_format_in_binary_mode(
    data: str, content_type: str | None, expected_type: str, expected_body: bytes
) -> None:
    """JSON format section 3.2: how each example is re-encoded, extensions included."""
    kind = f'"datacontenttype": "{content_type}", ' if content_type else ""
    text = (
        f'{json.dumps(ATTRIBUTES)[:-1]}, "comexampleextension1": "value", "comexampleothervalue":'
        f' 5, "unset": null, {kind}{data}}}'
    )
    (record,) = http.read(
        [(b"content-type", b"application/cloudevents+json")], text.encode(), arrival=None
    )
    lines = http.write_binary(record.headers)
    assert b"ce-comexampleextension1: value\r\nce-comexampleothervalue: 5\r\n" in lines
    assert lines.endswith(f"content-type: {expected_type}\r\n".encode())
    assert b"ce-unset" not in lines
    assert expected_body == record.value
