"""A CloudEvent as a value, and the ways in which something offered as one is refused.

The hot paths never build an `Event`: they carry records from door to door. This shape is for what
must look inside: the JSON format, filters by hand, replies made by us. Its rules are in
`headrace.domain.attributes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.domain.errors import Permanent

Value = str | int | bool
"""An attribute value, and what a CESQL expression gives. Times, URIs and binary values travel as
their canonical strings (CloudEvents 1.0, type system); integers are signed and have 32 bits.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Attributes (`specversion` among them) and data, whose bytes nobody changes.

    `data=None` says there is no data; `b""` says it is there and empty, which HTTP cannot tell
    apart.
    """

    attributes: Mapping[str, Value]
    data: bytes | None = None


class InvalidEvent(Permanent, ValueError):
    """What was offered is no CloudEvent.

    `attribute` names what is wrong (`data` for the payload), None when the message as a whole is;
    `index` is the position in a batch, None outside of one. The text never repeats the offending
    value.
    """

    def __init__(self, attribute: str | None, rule: str, *, index: int | None = None) -> None:
        subject = "the message" if attribute is None else f"attribute {attribute[:64]!r}"
        place = "" if index is None else f"event {index} of the batch: "
        super().__init__(f"{place}{subject} {rule}")
        self.attribute = attribute
        self.rule = rule
        self.index = index

    def at(self, index: int) -> "InvalidEvent":
        """The same fault, found in event `index` of a batch."""
        return InvalidEvent(self.attribute, self.rule, index=index)


class BatchTooLarge(Permanent):
    """A batch has more events than are taken at once; nothing of it was kept."""

    def __init__(self, events_max: int) -> None:
        super().__init__(
            f"the batch has more than {events_max} events; send it in parts of at most {events_max}"
        )
        self.events_max = events_max


class UnsupportedContent(Permanent):
    """The message is coded in a way that is not read here."""

    def __init__(self, header: str, accepted: str) -> None:
        super().__init__(f"header {header} names a coding that is not supported; send {accepted}")
        self.header = header
        self.accepted = accepted
