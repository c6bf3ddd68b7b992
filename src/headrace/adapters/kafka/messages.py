"""Converts the client's messages to records. Runs for every consumed record in the consumer's
thread.
"""

from collections.abc import Sequence

from confluent_kafka import Message

from headrace.domain.record import Headers, StoredRecord

_RECORD_OVERHEAD = 400
_HEADER_OVERHEAD = 100
"""Approximate memory of a record and of one header in addition to their bytes, so that empty
records have a size too.
"""


def to_record(message: Message) -> StoredRecord:
    """Return the record in a message that is not an error."""
    try:
        headers = message.headers()
    except (UnicodeDecodeError, SystemError):
        # The client cannot read a header name that is not UTF-8. Without headers the record is not
        # an event and is dead-lettered.
        headers = None
    key, value = message.key(), message.value()
    size = _RECORD_OVERHEAD + (len(value) if value else 0) + (len(key) if key else 0)
    fields: Headers = ()
    if headers:
        fields, size = _with_size(headers, size)  # type: ignore[arg-type]
    return StoredRecord(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        key,
        value,
        fields,
        None,
        size,
    )


def _with_size(headers: Sequence[tuple[str, bytes | None]], size: int) -> tuple[Headers, int]:
    total = size + _HEADER_OVERHEAD * len(headers)
    try:
        for _, value in headers:
            total += len(value)  # type: ignore[arg-type]
    except TypeError:  # A null value: the Kafka protocol allows it, the event binding does not.
        return _with_size([(name, value or b"") for name, value in headers], size)
    return headers, total  # type: ignore[return-value]
