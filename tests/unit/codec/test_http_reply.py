"""What a subscriber's response means: no event, one event, or a failed delivery."""

import pytest

from headrace.codec import http
from headrace.domain.event import InvalidEvent
from tests.support import event_builders as build

STRUCTURED = [(b"content-type", b"application/cloudevents+json")]
EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'


@pytest.mark.parametrize(
    "headers",
    [[], [(b"content-type", b"text/plain")], STRUCTURED, [(b"content-encoding", b"gzip")]],
)
def test_an_empty_body_without_attributes_is_no_reply(headers: list[tuple[bytes, bytes]]) -> None:
    """This is the usual response: success without a reply event."""
    assert http.read_reply(200, headers, b"") is None


def test_a_binary_reply_is_a_record() -> None:
    """It keeps passthrough headers, and gets an arrival time only if one is given."""
    reply = http.read_reply(
        200, [*build.http_headers(), (b"traceparent", b"00-a-b-01"), (b"set-cookie", b"x")], b"{}"
    )
    assert reply is not None
    assert ["ce_specversion", "ce_id", "ce_source", "ce_type", "content-type", "traceparent"] == [
        name for name, _ in reply.headers
    ]
    assert b"{}" == reply.value
    arrived = http.read_reply(201, build.http_headers(), b"", arrival=build.ARRIVAL)
    assert arrived is not None
    assert ("ce_knativearrivaltime", build.ARRIVAL) in arrived.headers


def test_a_structured_reply_is_a_record() -> None:
    """The JSON format is read as in requests."""
    reply = http.read_reply(200, STRUCTURED, EVENT)
    assert reply is not None
    assert [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
    ] == list(reply.headers)


@pytest.mark.parametrize("status", [100, 202, 199, 300, 404, 500])
def test_other_answers_carry_no_reply(status: int) -> None:
    """A 202 is never processed as a reply (data plane clause D16), and neither is a failure."""
    assert http.read_reply(status, STRUCTURED, EVENT) is None
    assert http.read_reply(status, build.http_headers(), b"x") is None


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], b"ok"),
        ([(b"content-type", b"text/html")], b"<html>"),
        (build.http_headers(id=None), b"{}"),
        (build.http_headers(id=None), b""),
        (build.http_headers(time=b"x"), b"{}"),
        ([(b"content-type", b"application/cloudevents-batch+json")], b"[" + EVENT + b"]"),
        ([(b"content-type", b"application/cloudevents-batch+json")], b"[]"),
        ([(b"content-type", b"application/cloudevents+xml")], b"<event/>"),
        ([*build.http_headers(), (b"content-encoding", b"gzip")], b"\x1f\x8b"),
        (STRUCTURED, b"{"),
        (STRUCTURED, b"[]"),
    ],
)
def test_a_body_that_is_no_single_event_fails_the_delivery(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """It must not be treated as a success without a reply."""
    with pytest.raises(InvalidEvent):
        http.read_reply(200, headers, body)


def test_a_reply_cannot_set_private_headers() -> None:
    """The rule is the same as at the ingress."""
    reply = http.read_reply(
        200,
        [*build.http_headers(None), (b"headrace_hops", b"0"), (b"ce-knativebrokerttl", b"9")],
        b"",
    )
    assert reply is not None
    assert ["ce_specversion", "ce_id", "ce_source", "ce_type"] == [
        name for name, _ in reply.headers
    ]
