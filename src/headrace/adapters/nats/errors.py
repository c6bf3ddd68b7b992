"""Classifies errors of JetStream. Only this module uses the server's error codes."""

from collections.abc import Mapping
from typing import Any, Final

from headrace.domain.errors import (
    Conflict,
    HeadraceError,
    LogUnavailable,
    NotFound,
    RecordTooLarge,
    TopicMissing,
    WriteRefused,
)

_STREAM_NOT_FOUND: Final = 10059
_CONSUMER_NOT_FOUND: Final = 10014
_MESSAGE_NOT_FOUND: Final = 10037
_SEQUENCE_NOT_FOUND: Final = 10043
_MESSAGE_NOT_DELETED: Final = 10057
_MESSAGE_TOO_LARGE: Final = 10054
_STREAM_NAME_IN_USE: Final = 10058
_WRONG_LAST_SEQUENCE: Final = 10071
_REPLICAS_REFUSED: Final = frozenset({10005, 10052, 10074})
"""Too few servers, more than five, more than one without a cluster."""
_CONSUMER_EXISTS: Final = frozenset({10012, 10013, 10105, 10148})
"""It cannot be changed to, or was created at the same time with, another configuration."""


class ApiError(Exception):
    """An error that the JetStream API answered. It stays inside this package."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.status = int(error.get("code", 0))
        self.code = int(error.get("err_code", 0))
        self.description = str(error.get("description", "no description"))
        super().__init__(f"{self.description} ({self.code})")

    @property
    def stream_missing(self) -> bool:
        """Whether the stream does not exist."""
        return self.code == _STREAM_NOT_FOUND

    @property
    def missing(self) -> bool:
        """Whether the stream, consumer or message does not exist."""
        return self.status == 404 or self.code in (
            _STREAM_NOT_FOUND,
            _CONSUMER_NOT_FOUND,
            _MESSAGE_NOT_FOUND,
        )

    @property
    def message_missing(self) -> bool:
        """Whether a message that was to be deleted does not exist."""
        return self.code in (_MESSAGE_NOT_FOUND, _SEQUENCE_NOT_FOUND) or (
            self.code == _MESSAGE_NOT_DELETED and "no message found" in self.description
        )

    @property
    def stream_exists(self) -> bool:
        """Whether a stream of this name exists with another configuration."""
        return self.code == _STREAM_NAME_IN_USE

    @property
    def consumer_exists(self) -> bool:
        """Whether a consumer of this name exists with another configuration."""
        return self.code in _CONSUMER_EXISTS

    @property
    def replicas_refused(self) -> bool:
        """Whether the servers cannot hold this many replicas of a stream."""
        return self.code in _REPLICAS_REFUSED

    @property
    def changed(self) -> bool:
        """Whether a key has another revision than expected."""
        return self.code == _WRONG_LAST_SEQUENCE

    @property
    def temporary(self) -> bool:
        """Whether the same call may succeed later: the server lacks resources or a leader."""
        return self.status >= 500


def call_error(error: ApiError, what: str) -> HeadraceError:
    """Return the domain's error for a failed call about `what`, which the message names."""
    text = f"{what}: JetStream answered: {error}"
    if error.missing:
        return NotFound(text)
    if error.changed or error.stream_exists or error.consumer_exists:
        return Conflict(text)
    return LogUnavailable(text) if error.temporary else WriteRefused(text)


def write_error(error: ApiError, *, topic: str, size: int, size_max: int) -> HeadraceError:
    """Return the domain's error for a record of `size` bytes that was not stored in `topic`.

    The server does not report the stream's limit: the error has a limit just below `size`.
    """
    if error.code == _MESSAGE_TOO_LARGE:
        return RecordTooLarge(size, min(size_max, size - 1))
    if error.stream_missing:
        return TopicMissing(topic)
    return call_error(error, f"topic {topic}")
