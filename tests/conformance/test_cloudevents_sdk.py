"""The CloudEvents SDK as a reference: what it refuses Headrace refuses, and what Headrace writes it
reads.

Not compared where the SDK (2.2) is wrong: it generates `id`, `specversion` and `time`, does not
check URIs or strings, accepts a trailing newline in a name, and decodes data.
"""

from datetime import datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary_event,
    from_structured_event,
    to_binary_event,
)
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.bindings.kafka import from_binary_event as from_kafka
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from headrace.codec import http, kafka
from headrace.domain import attributes
from headrace.domain.event import Event, InvalidEvent
from tests.support import event_builders as build

_names = st.sampled_from(
    ["id", "source", "type", "specversion", "subject", "dataschema", "datacontenttype"]
) | st.text("abzA0_-. ü", max_size=6)
_values = st.sampled_from(["", "x", "1.0", "a/b", "urn:x", 1, True])
_times = st.none() | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
_v1_events = build.events().filter(lambda event: event.attributes["specversion"] == "1.0")


@build.seeded
@given(
    st.dictionaries(_names, _values, max_size=3),
    st.sampled_from(["id", "source", "type", "specversion", "none"]),
)
def test_what_the_sdk_refuses_is_refused(changes: dict[str, Any], left_out: str) -> None:
    """Headrace makes all of its checks of names, types and emptiness."""
    candidate = {
        name: value for name, value in {**build.REQUIRED, **changes}.items() if name != left_out
    }
    for_sdk = {**candidate, "time": datetime.fromisoformat("2020-01-01T00:00:00+00:00")}
    try:
        CloudEvent(for_sdk, None)
    except CloudEventValidationError:
        with pytest.raises(InvalidEvent):
            attributes.check(candidate)


def sdk_attributes(event: Any) -> dict[str, Any]:
    """Its attributes without the time, which it turns into another type."""
    return {name: value for name, value in event.get_attributes().items() if name != "time"}


def headrace_attributes(event: Event) -> dict[str, Any]:
    """The same for Headrace's attributes."""
    return {name: value for name, value in event.attributes.items() if name != "time"}


@build.seeded
@given(_v1_events)
def test_the_sdk_reads_requests_of_headrace(event: Event) -> None:
    """Binary and structured."""
    record = kafka.record(event)
    binary = {
        name.decode(): value.decode()
        for name, value in build.parse_lines(http.write_binary(record.headers))
    }
    assert headrace_attributes(event) == sdk_attributes(
        from_binary_event(HTTPMessage(binary, b"{}"))
    )
    lines, body = http.write_structured(record.headers, record.value)
    structured = {name.decode(): value.decode() for name, value in build.parse_lines(lines)}
    assert headrace_attributes(event) == sdk_attributes(
        from_structured_event(HTTPMessage(structured, body))
    )


@build.seeded
@given(_v1_events)
def test_the_sdk_reads_records_of_headrace(event: Event) -> None:
    """Kafka binary mode; the key is the partition key."""
    record = kafka.record(event)
    assert headrace_attributes(event) == sdk_attributes(
        from_kafka(KafkaMessage(dict(record.headers), record.key, b"{}"))
    )


@build.seeded
@given(_v1_events)
def test_headrace_reads_requests_of_the_sdk(event: Event) -> None:
    """Its header names may be in capitals; servers convert them to lower case."""
    theirs = to_binary_event(
        CloudEvent(
            {
                **headrace_attributes(event),
                "time": datetime.fromisoformat("2020-01-01T00:00:00+00:00"),
            },
            None,
        )
    )
    headers = [(name.lower().encode(), value.encode()) for name, value in theirs.headers.items()]
    assert {**headrace_attributes(event), "time": "2020-01-01T00:00:00Z"} == kafka.attributes(
        http.read_binary(headers, b"", None).headers
    )
