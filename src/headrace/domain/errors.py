"""The errors that cross the boundaries between components. Adapters convert the exceptions of their
libraries to these; no other exception leaves an adapter.

`Temporary` means that the same call may succeed later. `Permanent` means that it will not, and that
an operator must be notified.
"""


class HeadraceError(Exception):
    """Parent class of every Headrace error. The message is written for the person who has to act on
    it.
    """


class Temporary(HeadraceError):
    """The same call may succeed later."""


class Permanent(HeadraceError):
    """The same call will fail again."""


class LogUnavailable(Temporary):
    """The log did not store the record or answer within its deadline."""


class OutcomeUnknown(LogUnavailable):
    """A write was sent but not acknowledged. It may be stored already or later; the writer must
    read before it writes again.
    """


class LogFull(Temporary):
    """Records that are not stored yet use up the byte budget of this topic."""

    def __init__(self, topic: str, bytes_max: int, message: str = "") -> None:
        """`message` is for another limit than that of records that are not stored yet."""
        super().__init__(
            message
            or f"{bytes_max} bytes are waiting to be stored in topic {topic}; no more are taken"
            " until some are"
        )
        self.topic = topic
        self.bytes_max = bytes_max


class RecordTooLarge(Permanent):
    """The record is larger than its topic accepts."""

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"the record has {size} bytes, its topic takes {size_max}")
        self.size = size
        self.size_max = size_max


class TopicMissing(Permanent):
    """The topic does not exist. Producers never create one."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic} does not exist")
        self.topic = topic


class WriteRefused(Permanent):
    """The log refused the record for a reason that does not resolve by itself (authorization,
    invalid record, fenced writer).
    """


class Unstorable(Permanent):
    """The resource was not stored, because it could not be read again."""


class Conflict(Permanent):
    """The resource changed since it was read (another resourceVersion), or it exists already."""


class NotFound(Permanent):
    """There is no such resource."""


class Fenced(Permanent):
    """Another writer has taken over; this writer must stop."""
