"""The content mode of a message, from its Content-Type (HTTP and Kafka bindings, section 3)."""

from dataclasses import dataclass
from enum import Enum

from headrace.domain.attributes import VALUE_BYTES_MAX, is_media_type
from headrace.domain.bounded_cache import ByteBoundedCache
from headrace.domain.event import InvalidEvent, UnsupportedContent

JSON = "application/cloudevents+json"
JSON_BATCH = "application/cloudevents-batch+json"

_CONTENT_TYPES_BYTES_MAX = 524_288
_REMEMBERED_BYTES_MAX = 256


class ContentMode(Enum):
    """How an event is encoded in a message."""

    BINARY = "binary"
    """Attributes in headers, data in the body; the content type is that of the data."""
    STRUCTURED = "structured"
    """The body is one event in the JSON format."""
    BATCH = "batch"
    """The body is an array of events in the JSON format."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """What the content type of a message means."""

    mode: ContentMode
    field: tuple[str, bytes]
    """The header of a record."""
    field_bytes: int
    """Its length, name and value."""


class ContentTypes(ByteBoundedCache[bytes, ContentType]):
    """Content types by their values, which are compared without regard to case.

    `content_types[value]` examines a value that is not cached, and caches it unless it is too long.
    Raises `InvalidEvent` for a value that is not a media type, and `UnsupportedContent` for an
    event format other than JSON in UTF-8.
    """

    def __missing__(self, value: bytes) -> ContentType:
        field = "content-type", value.strip(b" \t")
        found = ContentType(_mode(value), field, sum(map(len, field)))
        self.remember(value, found, 2 * len(value))
        return found


content_types = ContentTypes(
    bytes_max=_CONTENT_TYPES_BYTES_MAX, entry_bytes_max=2 * _REMEMBERED_BYTES_MAX
)


def mode(content_type: bytes) -> ContentMode:
    """Return the content mode for a content type. Raises what `ContentTypes` raises."""
    return content_types[content_type].mode


def _mode(content_type: bytes) -> ContentMode:
    text = content_type.strip(b" \t").decode("latin-1")
    if not text.isascii() or not text.isprintable() or not is_media_type(text):
        raise InvalidEvent(
            "datacontenttype", "must be a media type (RFC 2046), such as application/json"
        )
    if len(text) > VALUE_BYTES_MAX:
        raise InvalidEvent("datacontenttype", f"must have at most {VALUE_BYTES_MAX} bytes in UTF-8")
    essence, *parameters = [part.strip(" \t").lower() for part in text.split(";")]
    if not essence.startswith("application/cloudevents"):
        return ContentMode.BINARY
    modes = {JSON: ContentMode.STRUCTURED, JSON_BATCH: ContentMode.BATCH}
    if essence not in modes:
        raise UnsupportedContent(
            "Content-Type", f"{JSON}, {JSON_BATCH}, or an event in binary mode"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') != "utf-8":
            raise UnsupportedContent("Content-Type", "JSON in UTF-8 (charset=utf-8, or none)")
    return modes[essence]
