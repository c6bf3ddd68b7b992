"""The schema of an EventType: where it is, and what a reader of it found."""

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from headrace.resources import event_type as rules
from headrace.resources.resource import Resource

SOURCE_BYTES_MAX = 262_144
"""Bytes of a schema as it is written, at its URL or in `schemaData`."""


class SchemaSource(NamedTuple):
    """Where the schema of one generation of an EventType is: in its text, or at a URL."""

    uid: str
    generation: int
    text: str
    url: str

    @property
    def place(self) -> str:
        """For messages."""
        return "spec.schemaData" if self.text else self.url


@dataclass(frozen=True, slots=True)
class SchemaResult:
    """What was found: a schema that can be used, the reason why there is none, or neither while it
    is being read.
    """

    schema: str = ""
    """JSON text without unnecessary white space."""
    reason: str = ""
    """As one word, `InvalidSchema` or `SchemaNotFetched`."""
    message: str = ""


PENDING = SchemaResult()


def schema_source_of(event_type: Resource) -> SchemaSource | None:
    """Where the schema is; None if the EventType has none that can be used.

    That of an EventType that was created from traffic is what a sender wrote into an event, so it
    is not used.
    """
    if rules.is_auto_created(event_type) or not rules.described(event_type, "type"):
        return None
    text = event_type.spec.get("schemaData")
    if isinstance(text, str) and text.strip():
        return SchemaSource(event_type.uid, event_type.generation, text, "")
    url = rules.described(event_type, "schemadata")
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        return None
    if scheme not in ("http", "https"):
        return None
    return SchemaSource(event_type.uid, event_type.generation, "", url)
