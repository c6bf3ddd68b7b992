"""The errors that cross a border between parts. Adapters turn their library's exceptions into
these; nothing else escapes them.

`Temporary` means: the same call may succeed later. `Permanent` means: it will not, and an
operator must be notified.
"""


class HeadraceError(Exception):
    """Base of every Headrace error; the message is written for the person who has to act on it."""


class Temporary(HeadraceError):
    """The same call may succeed later."""


class Permanent(HeadraceError):
    """The same call will fail again."""


class LogUnavailable(Temporary):
    """The log did not store or answer within its deadline."""


class OutcomeUnknown(LogUnavailable):
    """A write was sent and not answered: it may be stored, now or later. The writer must read
    before writing again.
    """


class LogFull(Temporary):
    """The byte budget of this topic is used up by records that are not stored yet."""

    def __init__(self, topic: str, bytes_max: int) -> None:
        super().__init__(
            f"{bytes_max} bytes are waiting to be stored in topic {topic}; no more are taken until"
            " some are"
        )
        self.topic = topic
        self.bytes_max = bytes_max


class RecordTooLarge(Permanent):
    """The record exceeds what its topic takes."""

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
    """The log refused the record for a reason that will not pass by itself (authorization, invalid
    record, fenced writer).
    """


class Unstorable(Permanent):
    """The resource could not be read again if it were stored. Nothing is stored."""


class Conflict(Permanent):
    """The resource changed since it was read (another resourceVersion), or exists already."""


class NotFound(Permanent):
    """No such resource."""


class Fenced(Permanent):
    """Another writer has taken over; this one must stop writing."""
