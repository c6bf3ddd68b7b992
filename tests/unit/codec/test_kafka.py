"""Reading and writing events as records, including records of other producers."""

import pytest

from headrace.codec import http, kafka
from headrace.domain.event import Event, InvalidEvent
from headrace.domain.record import Record
from tests.support import event_builders as build

STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")
TEXT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[ 1 ]}'


def test_attributes_are_the_ce_headers_and_the_content_type() -> None:
    """Other headers are not attributes."""
    headers = build.record_headers(
        ("content-type", b"text/plain"),
        ("headrace_attempt", b"1"),
        ("traceparent", b"x"),
        subject="ü €".encode(),
    )
    assert {
        **build.REQUIRED,
        "subject": "ü €",
        "datacontenttype": "text/plain",
    } == kafka.attributes(headers)


def test_attributes_of_nothing_are_none() -> None:
    """A record without headers has no attributes."""
    assert {} == kafka.attributes([])
    assert {"a": "b"} == kafka.attributes([("ce_a", b"b")])


def test_attributes_must_be_text() -> None:
    """The error is `InvalidEvent`, not UnicodeDecodeError."""
    with pytest.raises(InvalidEvent, match="UTF-8"):
        kafka.attributes(build.record_headers(ext=b"\xff"))


def test_names_are_compared_without_case() -> None:
    """Producers in other languages may write header names as in HTTP."""
    headers = [
        (name.upper(), value) for name, value in build.record_headers(("Content-Type", b"a/b"))
    ]
    assert {**build.REQUIRED, "datacontenttype": "a/b"} == kafka.attributes(headers)


def test_private_attributes_are_not_seen() -> None:
    """Filters cannot depend on them."""
    assert dict(build.REQUIRED) == kafka.attributes(build.record_headers(knativebrokerttl=b"1"))


def test_a_binary_record_is_normal() -> None:
    """The record is returned unchanged, whichever client wrote it."""
    for record in (
        build.stored(build.record_headers()),
        build.stored(build.record_headers(("content-type", b"a/b"), subject=b'a "b" %'), None),
    ):
        assert record is kafka.normalise(record)


def test_a_structured_record_is_made_binary() -> None:
    """Position, key, private headers and passthrough headers are kept.

    All other headers are dropped.
    """
    headers = [
        STRUCTURED,
        ("headrace_attempt", b"2"),
        ("ce_id", b"stray"),
        ("traceparent", b"x"),
        ("connect", b"y"),
    ]
    expected = build.stored(
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", b"/s"),
            ("ce_type", b"t"),
            ("content-type", b"application/json"),
            ("headrace_attempt", b"2"),
            ("traceparent", b"x"),
        ],
        b"[ 1 ]",
        key=b"k",
    )
    assert expected == kafka.normalise(build.stored(headers, TEXT, key=b"k"))


@pytest.mark.parametrize(
    ("headers", "attribute"),
    [
        ([], "specversion"),
        ([("connect", b"x")], "specversion"),
        (build.record_headers(id=None), "id"),
        (build.record_headers(id=b""), "id"),
        (build.record_headers(source=b""), "source"),
        (build.record_headers(specversion=b"2.0"), "specversion"),
        (build.record_headers(specversion=b"\xff"), "specversion"),
        (build.record_headers(ext=b"\xff"), "ext"),
        (build.record_headers(ext=b"a\r\nb"), "ext"),
        (build.record_headers(("ce_my-ext", b"x")), "my-ext"),
        (build.record_headers(("content-type", b"json")), "datacontenttype"),
        (
            build.record_headers(("content-type", b"application/cloudevents+avro")),
            "datacontenttype",
        ),
        (
            build.record_headers(("content-type", b"application/cloudevents-batch+json")),
            "datacontenttype",
        ),
        ([STRUCTURED], None),
    ],
)
def test_what_is_no_event_is_refused(
    headers: list[tuple[str, bytes]], attribute: str | None
) -> None:
    """The error names the attribute, so that the dead letter can explain it."""
    for value in (b"{", None):
        with pytest.raises(InvalidEvent) as refused:
            kafka.normalise(build.stored(headers, value))
        assert attribute == refused.value.attribute


def test_an_event_becomes_a_record_and_comes_back() -> None:
    """Booleans and integers are canonical strings, and the content type has its own header.

    Extra headers come last.
    """
    event = Event(
        build.attributes(
            datacontenttype="a/b", partitionkey="ü", flag=True, count=-5, headracehops="1"
        ),
        b"\x00\xff",
    )
    record = kafka.record(event, [("headrace_attempt", b"1")])
    assert Record("ü".encode(), b"\x00\xff", record.headers) == record
    assert [
        ("ce_flag", b"true"),
        ("ce_count", b"-5"),
        ("content-type", b"a/b"),
        ("headrace_attempt", b"1"),
    ] == list(record.headers)[-4:]
    expected = {
        **build.REQUIRED,
        "datacontenttype": "a/b",
        "partitionkey": "ü",
        "flag": "true",
        "count": "-5",
    }
    assert Event(expected, b"\x00\xff") == kafka.event(record.headers, record.value)


def test_a_value_longer_than_one_that_comes_by_http_is_refused() -> None:
    """Filters and subscribers rely on the limit, whatever characters the value has.

    Several values together may be longer.
    """
    longest = b"a" * 8_192
    record = build.stored(build.record_headers(one=longest, two=longest))
    assert record is kafka.normalise(record)
    with pytest.raises(InvalidEvent, match="at most 8192 bytes") as refusal:
        kafka.normalise(build.stored(build.record_headers(one=longest + b"a")))
    assert "one" == refusal.value.attribute


@pytest.mark.clause("D1")
@pytest.mark.parametrize(
    ("headers", "media_type", "misplaced"),
    [
        ([("content-type", b"a/b"), ("ce_datacontenttype", b"c/d")], "a/b", 1),
        ([("CE_DataContentType", b"c/d"), ("Content-Type", b"a/b")], "a/b", 1),
        ([("ce_datacontenttype", b"c/d")], None, 1),
        ([("content-type", b"a/b")], "a/b", 0),
    ],
)
def test_the_place_of_the_type_of_data_is_content_type(
    headers: list[tuple[str, bytes]], media_type: str | None, misplaced: int
) -> None:
    """`ce_datacontenttype` is ignored, with or without `content-type` (Kafka binding 3.2.1).

    The caller is notified of it.
    """
    said: list[int] = []
    found = kafka.normalise(
        build.stored(build.record_headers(*headers), b"x"), lambda: said.append(1)
    )
    assert media_type == kafka.attributes(found.headers).get("datacontenttype")
    assert misplaced == len(said)
    assert b"c/d" not in http.write_binary(found.headers)


def test_a_record_in_structured_mode() -> None:
    """The event is the value; key and headers that are passed on stay, the headers of attributes
    do not.
    """
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
        ("content-type", b"application/json"),
        ("traceparent", b"00-1-2-01"),
    ]
    assert kafka.structured(Record(b"k", b"[ 1 ]", headers)) == Record(
        b"k",
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t",'
        b'"datacontenttype":"application/json","data":[ 1 ]}',
        [("content-type", b"application/cloudevents+json"), ("traceparent", b"00-1-2-01")],
    )
