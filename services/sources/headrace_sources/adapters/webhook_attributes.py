"""The attributes of the event that a webhook request becomes: from headers, from values in the
body, or fixed. Pure.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

from pydantic import field_validator, model_validator

from headrace.domain.attributes import is_timestamp
from headrace.domain.event import Value
from headrace_sources.adapters.webhook_signatures import Scheme
from headrace_sources.source import SourceConfig, event_time

DEFAULT_TYPE: Final = "dev.headrace.webhook"
VALUE_MAX: Final = 2_048
PATH_MAX: Final = 256
_FORM_FIELDS_MAX: Final = 1_000
_INTEGER_MAX: Final = 2**31 - 1
_MILLISECONDS_FROM: Final = 100_000_000_000
"""A number of seconds since 1970 from the year 5138 on is one of milliseconds."""
_STEP: Final = re.compile(r"""\.?([A-Za-z_][\w-]*)|\[(\d{1,6})\]|\['([^'\]]{1,100})'\]""")
_NAME: Final = re.compile(r"[a-z0-9]{1,64}").fullmatch

Path = tuple[str | int, ...]


def parse_path(text: str) -> Path:
    """Return the steps of a path such as `$.data.items[0].id` or `$['order id']`. Raises
    ValueError.
    """
    if len(text) > PATH_MAX:
        raise ValueError(f"a path has at most {PATH_MAX} characters")
    position, steps = 1 if text.startswith("$") else 0, []
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            raise ValueError(
                f"{text[:100]} is not a path of names and indexes, such as $.data.items[0].id"
            )
        name, index, quoted = found.groups()
        steps.append(int(index) if index is not None else name or quoted)
        position = found.end()
    if not steps:
        raise ValueError("a path names at least one member")
    return tuple(steps)


class AttributeMapping(SourceConfig):
    """Where the value of an attribute comes from: one of the three."""

    header: str = ""
    path: str = ""
    """In a JSON body, or the name of a field of a form."""
    value: str = ""
    prefix: str = ""
    """Put before what a header or path gives."""

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if path:
            parse_path(path)
        return path

    @model_validator(mode="after")
    def _check_one(self) -> "AttributeMapping":
        if sum(map(bool, (self.header, self.path, self.value))) != 1:
            raise ValueError("expected exactly one of header, path and value")
        return self

    def found(self, headers: Mapping[str, str], document: object) -> Value | None:
        """The value in a request; None if it has none."""
        if self.value:
            return self.value
        if self.header:
            found: Value | None = headers.get(self.header.lower())
        else:
            found = _scalar(_at(document, parse_path(self.path)))
        if found is None or found == "":
            return None
        if self.prefix or isinstance(found, str):
            return f"{self.prefix}{found}"[:VALUE_MAX]
        return found


AttributeMappings = Mapping[str, AttributeMapping]


def check_names(mappings: AttributeMappings) -> AttributeMappings:
    """Raise ValueError for a name that no attribute may have, or that is not to be set."""
    for name in mappings:
        if not _NAME(name):
            raise ValueError(f"attribute {name[:64]}: names have lower-case letters and digits")
        if name in ("specversion", "data", "datacontenttype"):
            raise ValueError(f"attribute {name} cannot be mapped")
    return mappings


def _by_header(name: str, prefix: str = "") -> AttributeMapping:
    return AttributeMapping(header=name, prefix=prefix)


def _by_path(path: str, prefix: str = "") -> AttributeMapping:
    return AttributeMapping(path=path, prefix=prefix)


DEFAULTS: Final[Mapping[Scheme, Mapping[str, Sequence[AttributeMapping]]]] = {
    Scheme.NONE: {},
    Scheme.BEARER: {},
    Scheme.GITHUB: {
        "type": (_by_header("x-github-event", "com.github."),),
        "id": (_by_header("x-github-delivery"),),
        "source": (_by_path("repository.html_url"), _by_path("organization.url")),
    },
    Scheme.STRIPE: {
        "type": (_by_path("type", "com.stripe."),),
        "id": (_by_path("id"),),
        "subject": (_by_path("data.object.id"),),
        "time": (_by_path("created"),),
    },
    Scheme.SLACK: {
        "type": (_by_path("event.type", "com.slack."), _by_path("type", "com.slack.")),
        "id": (_by_path("event_id"),),
        "subject": (_by_path("event.channel"),),
        "time": (_by_path("event_time"),),
    },
    Scheme.STANDARD: {
        "type": (_by_path("type"),),
        "id": (_by_header("webhook-id"), _by_header("svix-id")),
        "time": (_by_path("timestamp"),),
    },
}
"""What a scheme's provider has, for the attributes that are not mapped: the first that a request
has.
"""


def attributes_of(
    mappings: AttributeMappings,
    scheme: Scheme,
    headers: Mapping[str, str],
    document: object,
) -> dict[str, Value]:
    """The attributes that a request has; `document` is what `read_document` returned."""
    candidates = {**DEFAULTS[scheme], **{name: (each,) for name, each in mappings.items()}}
    found: dict[str, Value] = {}
    for name, each in candidates.items():
        values = (mapping.found(headers, document) for mapping in each)
        value = next((value for value in values if value is not None), None)
        if name == "time" and value is not None:
            value = _time(value)
        if value is not None:
            found[name] = str(value) if name in ("type", "id", "source", "subject") else value
    return found


def read_document(headers: Mapping[str, str], body: bytes) -> object:
    """The body as JSON values, or the fields of a form; None if it is neither."""
    if "form-urlencoded" in headers.get("content-type", ""):
        try:
            fields = parse_qs(body.decode(), max_num_fields=_FORM_FIELDS_MAX)
        except ValueError:
            return None
        return {name: values[-1] for name, values in fields.items()}
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None


def content_type_of(headers: Mapping[str, str], document: object) -> str | None:
    """The attribute `datacontenttype`."""
    if given := headers.get("content-type"):
        return given
    return "application/json" if document is not None else None


def _at(document: object, path: Path) -> Any:
    found: Any = document
    for step in path:
        if isinstance(step, int):
            found = found[step] if isinstance(found, list) and step < len(found) else None
        else:
            found = found.get(step) if isinstance(found, dict) else None
    return found


def _scalar(found: Any) -> Value | None:
    if isinstance(found, bool | str):
        return found
    if isinstance(found, int):
        # An attribute of the type Integer has 32 bits. Python has no text for very large numbers.
        return found if abs(found) <= _INTEGER_MAX else str(found) if abs(found) < 10**30 else None
    return str(found) if isinstance(found, float) else None


def _time(found: Value) -> str | None:
    """A time in RFC 3339, or in seconds or milliseconds since 1970."""
    text = str(found)
    if is_timestamp(text):
        return text
    try:
        seconds = float(text)
        seconds = seconds / 1_000 if abs(seconds) >= _MILLISECONDS_FROM else seconds
        return event_time(seconds, "auto")
    except (ValueError, OverflowError, OSError):
        return None
