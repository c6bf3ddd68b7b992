"""From the client's messages to records: the one place that touches every consumed record in the
consumer's thread.
"""

from collections.abc import Sequence

from confluent_kafka import Message

from headrace.domain.record import Headers, StoredRecord

_RECORD_OVERHEAD = 400
_HEADER_OVERHEAD = 100
"""What a record and one header cost in this process beside their bytes, roughly; so that a million
empty records have a size too.
"""


def to_record(message: Message) -> StoredRecord:
    """The record in a message that is not an error."""
    try:
        headers = message.headers()
    except (UnicodeDecodeError, SystemError):
        # A header name that is not UTF-8 cannot be read by the client at all. Without headers the
        # record is no event and is parked as one.
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
    except (
        TypeError
    ):  # A null value, which the Kafka protocol allows and the binding has no use for.
        return _with_size([(name, value or b"") for name, value in headers], size)
    return headers, total  # type: ignore[return-value]
