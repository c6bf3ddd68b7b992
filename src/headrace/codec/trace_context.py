"""The header `traceparent` of W3C Trace Context, in HTTP messages and in records.

`tracestate` and all other headers of a trace are passed on unchanged (`passthrough_headers`).
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from headrace.domain.record import Headers

TRACEPARENT: Final = "traceparent"
TRACEPARENT_EXTENSION: Final = "ce_traceparent"
"""The CloudEvents extension for distributed tracing, in a record: the context in which the event
was created. It is an attribute of the event and never changed.
"""

_FORMAT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_LINE = b"\r\ntraceparent: "
_SAMPLED = 0x01


class TraceContext(NamedTuple):
    """A position in a trace."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parse(traceparent: bytes | None) -> TraceContext | None:
    """Return the position that a `traceparent` names; None without one, or if it is not valid,
    which starts a new trace (Trace Context, section 3.2.2).

    A newer version is read as version 00, as its section 4.3 requires.
    """
    if traceparent is None:
        return None
    found = _FORMAT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    trace_id, span_id = int(trace, 16), int(span, 16)
    if version == b"ff" or (version == b"00" and more) or not trace_id or not span_id:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def find(headers: Iterable[tuple[str, bytes]], name: str = TRACEPARENT) -> TraceContext | None:
    """Return the position in the header of a record with this name, None without a valid one."""
    return parse(dict(headers).get(name))


def replace(headers: Headers, context: TraceContext, name: str = TRACEPARENT) -> Headers:
    """Return the headers of a record with this position, in place of an older one."""
    return [
        *(header for header in headers if header[0] != name),
        (name, str(context).encode()),
    ]


def replace_line(lines: bytes, context: TraceContext) -> bytes:
    """Return the header lines of a request with this position, in place of an older one. The lines
    have a name in lower case and end with CRLF each.
    """
    at = lines.find(_LINE)
    line = b"traceparent: %b\r\n" % str(context).encode()
    if at < 0:
        return lines + line
    begin = at + 2
    return lines[:begin] + line + lines[lines.index(b"\r\n", begin) + 2 :]
