"""Records as NATS messages: nothing is lost, and plain text stays readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from headrace.adapters.nats.messages import decode, encode
from headrace.domain.record import Record

NAMES = st.sampled_from(
    ["ce_id", "ce_type", "content-type", "ce-id", "Nats-Msg-Id", "Headrace-Key", "a b", "", "é"]
) | st.text(max_size=8)


def through_nats(record: Record) -> Record:
    """What is read of a record that was written, with the client's own parser of headers."""
    headers, payload = encode(record)
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    return decode(Client._parse_header_lines(lines), payload)


@given(
    key=st.none() | st.binary(max_size=20) | st.text(max_size=8).map(str.encode),
    value=st.none() | st.binary(max_size=20),
    headers=st.lists(
        st.tuples(NAMES, st.binary(max_size=12) | st.text(max_size=8).map(str.encode))
    ),
)
def test_a_record_is_read_as_it_was_written(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """Any key, value and headers, in their order, repeated names too."""
    found = through_nats(Record(key, value, headers))
    assert (key, value, headers) == (found.key, found.value, list(found.headers))


def test_an_event_is_readable_by_the_nats_binding_of_cloudevents() -> None:
    """Attributes are `ce-` headers, percent-encoded; the payload is the data."""
    record = Record(
        b"k 1", b"{}", [("ce_id", b"7"), ("ce_subject", "ä %".encode()), ("content-type", b"a/b")]
    )
    assert encode(record) == (
        {
            "Headrace-Key": "k 1",
            "ce-id": "7",
            "ce-subject": "%C3%A4%20%25",
            "content-type": "a/b",
        },
        b"{}",
    )


@pytest.mark.parametrize("value", [b"a\r\nNats-Rollup: all", b" a", b"a ", b"", b"\xff"])
def test_no_value_becomes_another_header(value: bytes) -> None:
    """Line breaks, surrounding spaces and other bytes are encoded."""
    headers, _ = encode(Record(None, b"", [("x", value)]))
    assert ["Headrace-Header-0"] == list(headers)
    assert [("x", value)] == list(through_nats(Record(None, b"", [("x", value)])).headers)


def test_messages_of_other_programs_are_records() -> None:
    """Damaged headers of the adapter are kept as they are; headers of NATS are left out."""
    found = decode({"Nats-Msg-Id": "1", "Headrace-Header-1": "?", "Headrace-Value": "null"}, b"x")
    assert (None, b"x", [("Headrace-Header-1", b"?")]) == (
        found.key,
        found.value,
        list(found.headers),
    )
