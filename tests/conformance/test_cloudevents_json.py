"""The JSON format cases of the CloudEvents conformance suite (v0.4.1), written as differences from
one minimal event.
"""

import json

import pytest

from headrace.codec import json_event
from headrace.domain.event import InvalidEvent, Value

MINIMAL: dict[str, object] = {
    "specversion": "1.0",
    "id": "minimal",
    "type": "io.cloudevents.test",
    "source": "https://cloudevents.io",
}


def text(**changes: object) -> bytes:
    """The minimal event with these members changed; Ellipsis leaves one out."""
    return json.dumps(
        {name: value for name, value in {**MINIMAL, **changes}.items() if value is not ...}
    ).encode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"datacontenttype": None, "dataschema": None, "subject": None, "time": None}, {}),
        *(
            ({name: value}, {name: value})
            for name, value in [
                ("time", "2018-04-05T17:31:00Z"),
                ("time", "2018-04-05T17:31:00.000000000Z"),
                ("time", "2018-04-05T18:31:00+01:00"),
                ("time", "2018-04-05T16:31:00-01:00"),
                ("source", "#fragment"),
                ("datacontenttype", "text/plain"),
                ("dataschema", "https://cloudevents.io/dataschema"),
                ("subject", "tests"),
                ("extinteger", 10),
                ("extboolean", True),
                ("extstring", "text"),
                ("exturi", "https://cloudevents.io"),
                ("exturiref", "//authority/path"),
                ("exttimestamp", "2023-03-31T15:12:00Z"),
                ("extbinary", "TWE="),
            ]
        ),
    ],
)
def test_valid_events_are_read(changes: dict[str, object], expected: dict[str, Value]) -> None:
    """Every member is an attribute with its own type; null ones are absent."""
    assert {**MINIMAL, **expected} == json_event.read(text(**changes)).attributes


def test_simple_text_data() -> None:
    """A string with a textual media type is its text."""
    assert (
        b"Simple text"
        == json_event.read(text(datacontenttype="text/plain", data="Simple text")).data
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": ...},
        {"id": ...},
        {"type": ...},
        {"source": ...},
        {"id": ""},
        {"type": ""},
        {"source": ""},
        {"specversion": ""},
        {"specversion": "0.9"},
        {"time": "lunchtime"},
        {"time": "2018-04-05T18:31Z"},
        {"time": "2018-04-05T18:31:00X"},
        {"time": "2018-04-05T18:31:00+25:00"},
        {"time": "2018-04-05T18:31:00+xx:00"},
        {"time": "2018-04-05T18:31:00+05"},
        {"datacontenttype": "xyz"},
        {"datacontenttype": ""},
        {"dataschema": ""},
        {"subject": ""},
        {"id": 25},
        {"id": {"xyz": "abc"}},
        {"MyExtension": "bad"},
        {"my.extension": "bad"},
        {"my.extension": 1.5},
        {"myextension": 1.5},
        {"data": "text", "data_base64": "eyAieHl6IjogMTIzIH0="},
    ],
)
def test_invalid_events_are_refused(changes: dict[str, object]) -> None:
    """None of them becomes an event."""
    with pytest.raises(InvalidEvent):
        json_event.read(text(**changes))


@pytest.mark.parametrize(
    "batch",
    [
        [text(), text(specversion="0.9")],
        [text(), text(specversion="0.3")],
        [text(id=...)],
        [b'"not an object"', text()],
    ],
)
def test_invalid_batches_are_refused(batch: list[bytes]) -> None:
    """Mixed versions, an invalid event, a member that is not an object."""
    with pytest.raises(InvalidEvent):
        json_event.read_batch(b"[" + b",".join(batch) + b"]", 10)


@pytest.mark.parametrize("batch", [[], [text()], [text(), text(id="2", data={"a": 1})]])
def test_valid_batches_are_read(batch: list[bytes]) -> None:
    """Empty, one, several."""
    assert [json_event.read(one) for one in batch] == json_event.read_batch(
        b"[" + b",".join(batch) + b"]", 10
    )
