"""A CloudEvent as a value, and the errors for input that is not one.

The hot paths never build an `Event`; they pass records on. This class is for code that reads the
content of an event: the JSON format, the library, the command line. The rules for attributes are in
`headrace.domain.attributes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.domain.errors import Permanent

Value = str | int | bool
"""An attribute value, and the result of a CESQL expression.

Times, URIs and binary values are their canonical strings (CloudEvents 1.0, type system); integers
are signed and have 32 bits.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent: its context attributes, including `specversion`, and the bytes of its data.

    `data=None` means that there is no data; `b""` is empty data. HTTP cannot distinguish the two.
    """

    attributes: Mapping[str, Value]
    data: bytes | None = None


class InvalidEvent(Permanent, ValueError):
    """The input is not a valid CloudEvent.

    `attribute` names the invalid attribute (`data` for the data), or is None when the message as a
    whole is invalid. `index` is the position in a batch, None outside of one. The text never
    contains the invalid value.
    """

    def __init__(self, attribute: str | None, rule: str, *, index: int | None = None) -> None:
        subject = "the message" if attribute is None else f"attribute {attribute[:64]!r}"
        place = "" if index is None else f"event {index} of the batch: "
        super().__init__(f"{place}{subject} {rule}")
        self.attribute = attribute
        self.rule = rule
        self.index = index

    def at(self, index: int) -> "InvalidEvent":
        """Return the same error for event `index` of a batch."""
        return InvalidEvent(self.attribute, self.rule, index=index)


class BatchTooLarge(Permanent):
    """A batch has more events than the limit; none of them was accepted."""

    def __init__(self, events_max: int) -> None:
        super().__init__(
            f"the batch has more than {events_max} events; send it in parts of at most {events_max}"
        )
        self.events_max = events_max


class UnsupportedContent(Permanent):
    """The message has an event format or a content encoding that is not supported."""

    def __init__(self, header: str, accepted: str) -> None:
        super().__init__(f"header {header} names a coding that is not supported; send {accepted}")
        self.header = header
        self.accepted = accepted
