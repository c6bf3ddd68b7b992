"""From a message of Google Cloud Pub/Sub to an event.

There are two forms: that of CloudPubSubSource, whose data is `MessagePublishedData` of
google-cloudevents (knative-gcp, `pkg/pubsub/adapter/converters/pubsub.go`), and that of
GcpPubSubSource of Knative 0.5, whose data is the message as Go's client had it.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from headrace.domain.attributes import PARTITION_KEY_BYTES_MAX, string_fault
from headrace.domain.event import Event
from headrace_sources.source import new_event

MESSAGE_PUBLISHED: Final = "google.cloud.pubsub.topic.v1.messagePublished"
DATA_SCHEMA: Final = (
    "https://raw.githubusercontent.com/googleapis/google-cloudevents/master/proto/google/events/"
    "cloud/pubsub/v1/data.proto"
)
TOPIC_PUBLISH: Final = "google.pubsub.topic.publish"
TYPE_ATTRIBUTE: Final = "ce-type"
"""The attribute of a message that GcpPubSubSource takes the type of the event from."""


class EventFormat(StrEnum):
    """The forms of event."""

    CLOUD_PUB_SUB = "cloud-pubsub"
    LEGACY = "gcp-pubsub-0.5"


@dataclass(frozen=True, slots=True)
class PubSubNames:
    """The full names of what is read, in the project of the topic."""

    project: str
    topic_id: str
    subscription_id: str

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return f"projects/{self.project}/topics/{self.topic_id}"

    @property
    def subscription(self) -> str:
        """Name of the subscription."""
        return f"projects/{self.project}/subscriptions/{self.subscription_id}"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was published."""

    id: str
    data: bytes
    publish_time: str
    """As RFC 3339, in UTC."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""


def event_of(message: Message, names: PubSubNames, form: EventFormat) -> Event:
    """The event for a message. Messages with the same ordering key have the same partition key."""
    key = message.ordering_key
    partition_key = key if key and _is_partition_key(key) else None
    if form is EventFormat.LEGACY:
        return new_event(
            _type_of(message),
            f"//pubsub.googleapis.com/{names.project}/topics/{names.topic_id}",
            _json(_legacy_data(message)),
            id=message.id,
            content_type="application/json",
            time=message.publish_time,
            partitionkey=partition_key,
        )
    return new_event(
        MESSAGE_PUBLISHED,
        f"//pubsub.googleapis.com/{names.topic}",
        _json(_data(message, names)),
        id=message.id,
        content_type="application/json",
        dataschema=DATA_SCHEMA,
        time=message.publish_time,
        partitionkey=partition_key,
    )


def _is_partition_key(key: str) -> bool:
    """Whether an event may have it; the data has the ordering key in any case."""
    return string_fault(key) is None and len(key.encode()) <= PARTITION_KEY_BYTES_MAX


def _type_of(message: Message) -> str:
    given = message.attributes.get(TYPE_ATTRIBUTE, "")
    return given if given and string_fault(given) is None else TOPIC_PUBLISH


def _data(message: Message, names: PubSubNames) -> dict[str, Any]:
    """`MessagePublishedData`."""
    content: dict[str, Any] = {
        "messageId": message.id,
        "data": b64encode(message.data).decode(),
        "publishTime": message.publish_time,
    }
    if message.attributes:
        content["attributes"] = dict(message.attributes)
    if message.ordering_key:
        content["orderingKey"] = message.ordering_key
    return {"subscription": names.subscription, "message": content}


def _legacy_data(message: Message) -> dict[str, Any]:
    """The JSON of `pubsub.Message` of Go's client in 2019."""
    return {
        "ID": message.id,
        "Data": b64encode(message.data).decode(),
        "Attributes": dict(message.attributes) or None,
        "PublishTime": message.publish_time,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
