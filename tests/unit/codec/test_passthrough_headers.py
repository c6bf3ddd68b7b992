"""Which headers are passed on with an event."""

import pytest

from headrace.codec.passthrough_headers import is_passthrough, passthrough_value


@pytest.mark.parametrize(
    "name", ["traceparent", "tracestate", "x-request-id", "knative-foo", "x-b3-traceid"]
)
def test_trace_context_and_knative_headers_travel(name: str) -> None:
    """The Knative data plane specification lists these headers."""
    assert is_passthrough(name)


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "cookie",
        "host",
        "content-length",
        "transfer-encoding",
        "headrace_attempt",
        "headrace-attempt",
        "prefer",
        "retry-after",
        "kn-namespace",
        "knative-\r\nx",
        "knative-a:b",
        "knative-" + "x" * 60,
    ],
)
def test_everything_else_ends_here(name: str) -> None:
    """Most importantly, credentials, message framing and private headers are not passed on."""
    assert not is_passthrough(name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" a b ", b"a b"),
        (b"a\r\nb", None),
        (b"a\x00", None),
        (b"\xff", None),
        (b"x" * 8_193, None),
    ],
)
def test_values_cannot_break_a_line(value: bytes, expected: bytes | None) -> None:
    """A value that could end the header line, or is too long, is dropped."""
    assert expected == passthrough_value(value)
