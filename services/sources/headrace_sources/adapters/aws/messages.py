"""From a message of SQS to an event."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace.domain.event import Event
from headrace_sources.source import event_time, new_event

_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class EventForm:
    """How events are made of messages."""

    type: str
    source: str
    subject: str | None = None
    whole_message: bool = False
    """Whether the data is the message as the API of SQS shows it, instead of its body."""


def event_of(message: Mapping[str, Any], form: EventForm) -> Event:
    """Return the event for a message as the API has it.

    Its id is the message id, which all deliveries of a message share, and its time is when the
    message was sent. The messages of one group have the group as `partitionkey`.
    """
    attributes: Mapping[str, str] = message.get("Attributes") or {}
    if form.whole_message:
        data, content_type = json.dumps(_shown(message), separators=(",", ":")).encode(), _JSON
    else:
        data, content_type = body_of(message)
    return new_event(
        form.type,
        form.source,
        data,
        id=message["MessageId"],
        content_type=content_type,
        subject=form.subject,
        time=_time(attributes.get("SentTimestamp")),
        partitionkey=attributes.get("MessageGroupId"),
    )


def body_of(message: Mapping[str, Any]) -> tuple[bytes, str]:
    """The body of a message and its media type: JSON if it is a JSON object or list."""
    body = str(message.get("Body") or "")
    return body.encode(), _JSON if _is_json(body) else "text/plain"


def group_of(message: Mapping[str, Any]) -> str | None:
    """The message group of a message from a FIFO queue."""
    attributes: Mapping[str, str] = message.get("Attributes") or {}
    return attributes.get("MessageGroupId")


def _is_json(body: str) -> bool:
    if body.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _time(milliseconds: str | None) -> str | None:
    """SentTimestamp, in milliseconds since 1970, as a time of RFC 3339."""
    if milliseconds is None or not milliseconds.isdigit():
        return None
    try:
        return event_time(int(milliseconds) / 1000)
    except (OverflowError, ValueError, OSError):
        return None


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in the form in which AwsSqsSource of Knative 0.5 sent it: the fields of the API,
    null where there is nothing.
    """
    given = message.get("MessageAttributes")
    return {
        "Attributes": message.get("Attributes"),
        "Body": message.get("Body"),
        "MD5OfBody": message.get("MD5OfBody"),
        "MD5OfMessageAttributes": message.get("MD5OfMessageAttributes"),
        "MessageAttributes": None
        if given is None
        else {name: _shown_attribute(value) for name, value in given.items()},
        "MessageId": message.get("MessageId"),
        "ReceiptHandle": message.get("ReceiptHandle"),
    }


def _shown_attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    binary = value.get("BinaryValue")
    return {
        "BinaryListValues": None,
        "BinaryValue": None if binary is None else b64encode(binary).decode(),
        "DataType": value.get("DataType"),
        "StringListValues": None,
        "StringValue": value.get("StringValue"),
    }
