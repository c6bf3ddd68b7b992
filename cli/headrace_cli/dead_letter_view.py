"""View of one record in a dead letter topic: the event, why it was not delivered, and where it came
from.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.codec.delivery_state import PREFIX
from headrace.domain.record import StoredRecord

_DIGITS_MAX = 9
_ERRORS = ("knativeerrordest", "knativeerrorcode", "knativeerrordata")


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A dead letter. A missing field is an empty string: any client that can write to the topic may
    have written the record.
    """

    place: str
    """`topic/partition/offset`."""
    timestamp_ms: int
    attributes: Mapping[str, str]
    """Attributes of the event, without those that describe the error."""
    errors: Mapping[str, str]
    private: Mapping[str, str]
    """Fields that the dispatcher added: `reason`, `attempt`, `origin`, `first_failure` …"""
    size: int
    data: bytes | None
    """None in a summary."""

    @property
    def time(self) -> str:
        """The time at which the event became a dead letter."""
        try:
            return (
                datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)
                .isoformat(timespec="seconds")
                .replace("+00:00", "Z")
            )
        except (ValueError, OverflowError, OSError):
            # The client that writes the record chooses the timestamp.
            return ""

    @property
    def reason(self) -> str:
        """The reason as the dispatcher reported it."""
        return self.private.get("reason", "")

    @property
    def sink(self) -> str:
        """The response of the dead letter sink if it rejected the letter, otherwise empty."""
        return self.private.get("sink", "")

    @property
    def copy_of(self) -> str:
        """If this record is a copy that includes the response of the sink, the place of the
        original letter; otherwise empty.
        """
        return self.private.get("copy_of", "")

    def row(self) -> dict[str, Any]:
        """Return the fields for a list."""
        return {
            "time": self.time,
            "id": self.attributes.get("id", ""),
            "source": self.attributes.get("source", ""),
            "type": self.attributes.get("type", ""),
            "reason": self.reason,
            "code": self.errors.get("knativeerrorcode", ""),
            "destination": self.errors.get("knativeerrordest", ""),
            "attempts": _number(self.private.get("attempt", "")),
            "sink": self.sink,
            "bytes": self.size,
            "place": self.place,
        }

    def whole(self) -> dict[str, Any]:
        """Return all fields. Data is text if it is valid UTF-8, otherwise base64."""
        data = self.data or b""
        try:
            content = {"data": data.decode("utf-8")}
        except UnicodeDecodeError:
            content = {"data_base64": base64.b64encode(data).decode()}
        return {
            **self.row(),
            "attributes": dict(self.attributes),
            "errors": dict(self.errors),
            "private": dict(self.private),
            **content,
        }

    def answer(self) -> bytes:
        """Return the beginning of the subscriber's response."""
        try:
            return base64.b64decode(self.errors.get("knativeerrordata", ""), validate=True)
        except ValueError:
            return b""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX else None


def summary(record: StoredRecord) -> DeadLetterView:
    """Return a view without the data, so that a list of large events does not keep the data in
    memory.
    """
    return _view_of(record, None)


def of_id(event_id: str) -> Callable[[StoredRecord], DeadLetterView | None]:
    """Return a function that picks the records of the event with this id."""
    wanted = event_id.encode()

    def pick(record: StoredRecord) -> DeadLetterView | None:
        if any(name == "ce_id" and value == wanted for name, value in record.headers):
            return _view_of(record, record.value or b"")
        return None

    return pick


def without_originals(views: Iterable[DeadLetterView]) -> list[DeadLetterView]:
    """Return each dead letter once, newest first. A letter that its sink rejected is stored in the
    topic a second time; the later record has more information.
    """
    found = list(views)
    copied = {each.copy_of for each in found}
    return [each for each in found if each.place not in copied]


def _view_of(record: StoredRecord, data: bytes | None) -> DeadLetterView:
    attributes: dict[str, str] = {}
    errors: dict[str, str] = {}
    private: dict[str, str] = {}
    for name, value in record.headers:
        text = value.decode("utf-8", errors="replace")
        attribute = name.removeprefix("ce_")
        if name.startswith(PREFIX):
            private[name.removeprefix(PREFIX)] = text
        elif attribute in _ERRORS:
            errors[attribute] = text
        elif attribute != name:
            attributes[attribute] = text
        elif name == "content-type":
            attributes["datacontenttype"] = text
    return DeadLetterView(
        record.origin,
        record.timestamp_ms,
        attributes,
        errors,
        private,
        len(record.value or b""),
        data,
    )
