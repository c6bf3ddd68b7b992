"""Events for tests: one valid event in every format, changed by keyword arguments, and hypothesis
strategies for arbitrary events.
"""

from collections.abc import Mapping, Sequence

from hypothesis import settings
from hypothesis import strategies as st

from headrace.domain.event import Event, Value
from headrace.domain.record import Headers, StoredRecord

seeded = settings(derandomize=True)
"""For property tests: the same examples in every run, and no deadline."""
ARRIVAL = b"2026-11-24T08:00:00.123Z"
REQUIRED: Mapping[str, str] = {
    "specversion": "1.0",
    "id": "1234-1234",
    "source": "/mycontext/subcontext",
    "type": "com.example.someevent",
}


def attributes(**changes: Value | None) -> dict[str, Value]:
    """The attributes of a valid event; None leaves one out."""
    merged = {**REQUIRED, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def http_headers(
    content_type: bytes | None = b"application/json", /, **changes: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Headers of a valid binary mode request, with attributes in their wire form; None leaves one
    out.
    """
    wire: dict[str, bytes | None] = {name: value.encode() for name, value in REQUIRED.items()}
    wire |= changes
    headers = [(b"ce-" + name.encode(), value) for name, value in wire.items() if value is not None]
    headers.insert(0, (b"host", b"broker.example.com"))
    return headers if content_type is None else [*headers, (b"content-type", content_type)]


def record_headers(*more: tuple[str, bytes], **changes: bytes | None) -> list[tuple[str, bytes]]:
    """Headers of a valid binary record."""
    wire: dict[str, bytes | None] = {name: value.encode() for name, value in REQUIRED.items()}
    wire |= changes
    return [*(("ce_" + name, value) for name, value in wire.items() if value is not None), *more]


def stored(
    headers: Headers, value: bytes | None = b"{}", *, key: bytes | None = None
) -> StoredRecord:
    """A record as a feed returns it."""
    return StoredRecord(
        "events", 3, 42, 1_700_000_000_000, key, value, headers, note="note", size=99
    )


def parse_lines(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines as a subscriber's HTTP parser reads them: exactly one `name: value` per CRLF."""
    if not lines:
        return []
    assert lines.endswith(b"\r\n")
    pairs = [line.split(b": ", 1) for line in lines[:-2].split(b"\r\n")]
    assert all(b"\r" not in part and b"\n" not in part for pair in pairs for part in pair)
    return [(name, value) for name, value in pairs]


def request_of(lines: bytes) -> Sequence[tuple[bytes, bytes]]:
    """The same, with a Host, as the next receiver gets it."""
    return [(b"host", b"subscriber.example.com"), *parse_lines(lines)]


_NONCHARACTERS = "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
) + "".join(map(chr, range(0xFDD0, 0xFDF0)))

legal_characters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=_NONCHARACTERS)
"""Characters of a String (CloudEvents 1.0, type system); category Cc is exactly C0, DEL and C1."""

texts = st.text(legal_characters, min_size=1, max_size=40)
extension_names = st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).filter(
    lambda name: (
        not name.startswith(("data", "schema", "headrace", "knative", "partition"))
        and name not in (*REQUIRED, "subject", "time")
    )
)
sources = st.sampled_from(
    [
        "/a",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "https://example.com/a?b=c#d",
        "#fragment",
        "1-555-123-4567",
    ]
)
times = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
media_types = st.sampled_from(
    [
        "application/json",
        "application/vnd.x+json; charset=utf-8",
        "text/plain",
        "text/xml;charset=UTF-8",
        "application/octet-stream",
    ]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@st.composite
def events(
    draw: st.DrawFn,
    data: st.SearchStrategy[bytes | None] = st.none() | st.binary(min_size=1, max_size=64),  # noqa: B008
) -> Event:
    """Any valid event with string attributes; its data may not match its media type."""
    found: dict[str, Value] = {"specversion": draw(st.sampled_from(["1.0", "0.3"]))}
    found |= {"id": draw(texts), "source": draw(sources), "type": draw(texts)}
    optional = {
        "subject": texts,
        "time": times,
        "datacontenttype": media_types,
        "partitionkey": texts,
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            found[name] = draw(values)
    found |= draw(st.dictionaries(extension_names, texts | st.just(""), max_size=4))
    return Event(found, draw(data))
