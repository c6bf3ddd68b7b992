"""From messages of Pub/Sub to events."""

import json
from dataclasses import replace

import pytest

from headrace.domain.attributes import check
from headrace_sources.adapters.gcp_pubsub_events import (
    EventFormat,
    Message,
    PubSubNames,
    event_of,
)

NAMES = PubSubNames("p1", "laconia", "sub-1")
MESSAGE = Message(
    id="77",
    data=b"\x00ok",
    publish_time="2026-01-02T03:04:05.006Z",
    attributes={"color": "red"},
    ordering_key="k",
)


def test_the_event_of_today() -> None:
    """Attributes and data as knative-gcp and Eventarc have them."""
    event = event_of(MESSAGE, NAMES, EventFormat.CLOUD_PUB_SUB)
    schema = event.attributes["dataschema"]
    assert str(schema).endswith("/google/events/cloud/pubsub/v1/data.proto")
    assert event.attributes == {
        "specversion": "1.0",
        "id": "77",
        "source": "//pubsub.googleapis.com/projects/p1/topics/laconia",
        "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "dataschema": schema,
        "datacontenttype": "application/json",
        "time": "2026-01-02T03:04:05.006Z",
        "partitionkey": "k",
    }
    assert json.loads(event.data or b"") == {
        "subscription": "projects/p1/subscriptions/sub-1",
        "message": {
            "messageId": "77",
            "data": "AG9r",
            "attributes": {"color": "red"},
            "publishTime": "2026-01-02T03:04:05.006Z",
            "orderingKey": "k",
        },
    }


def test_the_event_of_2019() -> None:
    """Data is the message as Go's client had it; an attribute may give the type."""
    event = event_of(MESSAGE, NAMES, EventFormat.LEGACY)
    assert event.attributes["type"] == "google.pubsub.topic.publish"
    assert event.attributes["source"] == "//pubsub.googleapis.com/p1/topics/laconia"
    assert json.loads(event.data or b"") == {
        "ID": "77",
        "Data": "AG9r",
        "Attributes": {"color": "red"},
        "PublishTime": "2026-01-02T03:04:05.006Z",
    }
    typed = replace(MESSAGE, attributes={"ce-type": "com.example.x"})
    assert event_of(typed, NAMES, EventFormat.LEGACY).attributes["type"] == "com.example.x"


@pytest.mark.parametrize("form", EventFormat)
@pytest.mark.parametrize("text", ["", "a\nb", "\x00", "\uffff", "ü", "x" * 9_000])
def test_no_message_makes_an_event_that_a_sink_refuses(form: EventFormat, text: str) -> None:
    """Attributes and ordering keys may be any text; the data has them as they are."""
    message = replace(MESSAGE, attributes={"ce-type": text, "a": text}, ordering_key=text)
    event = event_of(message, NAMES, form)
    check(event.attributes)
    data = json.loads(event.data or b"")
    attributes = data["Attributes"] if "Attributes" in data else data["message"]["attributes"]
    assert attributes["a"] == text
