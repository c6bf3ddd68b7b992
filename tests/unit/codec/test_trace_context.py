"""The header `traceparent` (W3C Trace Context, level 1)."""

import pytest

from headrace.codec import trace_context
from headrace.codec.trace_context import TraceContext, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"
CONTEXT = TraceContext(int(TRACE, 16), int(SPAN, 16), sampled=True)


def test_a_valid_value_is_read_and_written() -> None:
    """The same text comes out."""
    assert CONTEXT == parse(VALID.encode())
    assert VALID == str(CONTEXT)


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_lowest_flag_says_that_a_trace_is_sampled(flags: str, sampled: bool) -> None:
    """The others are not defined (section 3.2.2.5)."""
    found = parse(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert found is not None
    assert sampled is found.sampled


@pytest.mark.parametrize("more", ["", "-what-comes-later"])
def test_a_newer_version_is_read_as_this_one(more: str) -> None:
    """Section 4.3."""
    assert CONTEXT == parse(f"cc-{TRACE}-{SPAN}-01{more}".encode())


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" {VALID}",
        f"{VALID}\n",
        f"cc-{TRACE}-{SPAN}-01.",
    ],
)
def test_what_is_not_valid_is_ignored(value: str) -> None:
    """A new trace begins."""
    assert parse(value.encode()) is None


def test_the_position_in_a_record_is_replaced() -> None:
    """Other headers stay as they are."""
    headers = [("ce_id", b"1"), ("traceparent", b"old"), ("tracestate", b"v=1")]
    replaced = trace_context.replace(headers, CONTEXT)
    assert CONTEXT == trace_context.find(replaced)
    assert [("ce_id", b"1"), ("tracestate", b"v=1"), ("traceparent", VALID.encode())] == replaced
    assert trace_context.find(headers) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"prefer: reply\r\n", b"prefer: reply\r\ntraceparent: %b\r\n"),
        (
            b"prefer: reply\r\ntraceparent: old\r\ntracestate: v=1\r\n",
            b"prefer: reply\r\ntraceparent: %b\r\ntracestate: v=1\r\n",
        ),
        (
            b"prefer: reply\r\nce-traceparent: event\r\nx: traceparent: no\r\n",
            b"prefer: reply\r\nce-traceparent: event\r\nx: traceparent: no\r\ntraceparent: %b\r\n",
        ),
    ],
    ids=["none", "one", "others that look like it"],
)
def test_the_line_of_a_request_is_replaced(before: bytes, after: bytes) -> None:
    """The extension of an event and values are not touched."""
    assert after % VALID.encode() == trace_context.replace_line(before, CONTEXT)
