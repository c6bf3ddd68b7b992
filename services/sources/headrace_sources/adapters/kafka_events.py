"""Events from the records of any Kafka topic.

A record that is a CloudEvent (Kafka protocol binding, binary or structured mode) is that event. Any
other record becomes an event of type `dev.knative.kafka.event`, with the attributes that Knative
gives it.
"""

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

from headrace.codec import kafka
from headrace.domain.attributes import (
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_MAX,
    NAME_LENGTH_MAX,
    PARTITION_KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    check,
    is_media_type,
    string_fault,
)
from headrace.domain.event import Event, InvalidEvent, Value
from headrace.domain.record import Headers, StoredRecord

EVENT_TYPE: Final = "dev.knative.kafka.event"
HEADER_PREFIX: Final = "kafkaheader"
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")
_HEADERS_MAX: Final = ATTRIBUTES_MAX - 28
_HEADERS_BYTES_MAX: Final = ATTRIBUTES_BYTES_MAX - 2 * VALUE_BYTES_MAX
"""What is left for headers beside the other attributes and `ceOverrides`."""


class KeyType(StrEnum):
    """What the keys of the records are: the label `kafkasources.sources.knative.dev/key-type`."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BYTE_ARRAY = "byte-array"


class RecordReader:
    """Makes events of the records of one source."""

    def __init__(self, source: str, key_type: KeyType) -> None:
        """`source` is the attribute of the events, without the topic."""
        self._source = source
        self._read_key = _KEY_READERS[key_type]

    def event(self, record: StoredRecord) -> Event:
        """Return the event of a record, which is valid."""
        if record.headers:
            try:
                return _passed_through(record)
            except InvalidEvent:
                pass
        return self.wrapped(record)

    def wrapped(self, record: StoredRecord) -> Event:
        """Return the event of a record that is none itself."""
        place = f"partition:{record.partition}"
        attributes: dict[str, Value] = {
            "specversion": "1.0",
            "id": f"{place}/offset:{record.offset}",
            "source": f"{self._source}#{record.topic}",
            "type": EVENT_TYPE,
            "subject": f"{place}#{record.offset}",
        }
        if record.timestamp_ms >= 0:
            attributes["time"] = _time_text(record.timestamp_ms)
        if record.key is not None:
            _add_key(attributes, record.key, self._read_key(record.key))
        if record.headers:
            _add_headers(attributes, record.headers)
        return Event(attributes, record.value)


def _passed_through(record: StoredRecord) -> Event:
    """Raises InvalidEvent if the record is no event, or none that a sink may take."""
    binary = kafka.normalise(record)
    attributes = kafka.attributes(binary.headers)
    # A reader of a log passes on what a writer of an installation has checked. Nobody has checked
    # this one.
    check(attributes)
    return Event(attributes, binary.value)


def _add_key(attributes: dict[str, Value], key: bytes, value: Value) -> None:
    """Set `key`, unless it is longer than an attribute may be, and `partitionkey`, which keeps the
    order of the records with this key.
    """
    text = str(value)
    size = len(text.encode())
    if size <= VALUE_BYTES_MAX:
        attributes["key"] = value
    if 0 < size <= PARTITION_KEY_BYTES_MAX:
        attributes["partitionkey"] = text
    elif text:
        attributes["partitionkey"] = hashlib.sha256(key).hexdigest()


def _add_headers(attributes: dict[str, Value], headers: Headers) -> None:
    size = 0
    for name, value in headers[:_HEADERS_MAX]:
        lowered = name.lower()
        attribute = HEADER_PREFIX + _NOT_IN_NAMES.sub("", lowered)
        text = _text(value)
        size += len(attribute) + len(text.encode())
        if size > _HEADERS_BYTES_MAX:
            return
        if len(attribute) <= NAME_LENGTH_MAX and len(text) <= VALUE_BYTES_MAX // 4:
            attributes[attribute] = text
        if lowered == "content-type" and is_media_type(text) and "cloudevents" not in text.lower():
            attributes["datacontenttype"] = text


def _text(value: bytes) -> str:
    """The value as a string of an event: itself if it is one, else in base64."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
    if text.isprintable() and text.isascii():
        return text
    return text if string_fault(text) is None else base64.b64encode(value).decode()


def _read_int(key: bytes) -> Value:
    return int.from_bytes(key, signed=True) if len(key) == 4 else _text(key)


def _read_float(key: bytes) -> Value:
    if len(key) == 4:
        # The shortest text that gives the same float of 4 bytes.
        number = struct.unpack(">f", key)[0]
        return next(
            (
                text
                for digits in range(1, 9)
                if struct.pack(">f", float(text := f"{number:.{digits}g}")) == key
            ),
            f"{number:.9g}",
        )
    return repr(struct.unpack(">d", key)[0]) if len(key) == 8 else _text(key)


def _read_bytes(key: bytes) -> Value:
    return base64.b64encode(key).decode()


_KEY_READERS: Final[Mapping[KeyType, Callable[[bytes], Value]]] = {
    KeyType.STRING: _text,
    KeyType.INT: _read_int,
    KeyType.FLOAT: _read_float,
    KeyType.BYTE_ARRAY: _read_bytes,
}
"""As Knative's: a key that has not the length of its type is read as a string."""


@lru_cache(maxsize=256)
def _time_text(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()
    return f"{text[:19]}.{rest:03d}Z"
