"""The rules for a CloudEvent's attributes: names, strings, URIs, times and media types, and which
attributes are required.

The rules are those of CloudEvents 1.0 (sections "Naming Conventions", "Type System" and "Context
Attributes"), and of 0.3 where that differs. A rule is a function that takes a value and returns
what is wrong with it, or None. Codecs and tests share the rules through `rules`.
"""

import re
from collections.abc import Callable, Mapping

from headrace.domain.event import InvalidEvent, Value

NAME_LENGTH_MAX = 64
"""The specification recommends at most 20."""
VALUE_BYTES_MAX = 8_192
"""Limit for one value in UTF-8. Percent-encoded, a value is at most three times as long, which
common servers still accept in a header.
"""
PARTITION_KEY_BYTES_MAX = 1_024
ATTRIBUTES_MAX = 128
ATTRIBUTES_BYTES_MAX = 65_536
"""Limit for all names and values of one event. It equals the margin between the largest accepted
event and the record limit of its topic.
"""

REQUIRED = ("specversion", "id", "source", "type")
SPEC_VERSIONS = ("1.0", "0.3")

Rule = Callable[[str], str | None]
"""Returns what a value must be if it breaks the rule, else None."""

_NAME = re.compile(r"[a-z0-9]+").fullmatch

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_SURROGATES = range(0xD800, 0xE000)
_NONCHARACTERS = (
    *range(0xFDD0, 0xFDF0),
    *(plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)),
)
_FORBIDDEN = frozenset(map(chr, (*_CONTROLS, *_SURROGATES, *_NONCHARACTERS)))

# RFC 3986 appendix A. A percent sign must start an encoded byte. Possessive quantifiers keep the
# match linear.
_SEGMENTS = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*+"
_AUTHORITY = (
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?"
    r"(?:\[[0-9A-Fa-fv.:]++\]|[A-Za-z0-9._~!$&'()*+,;=%-]*+)(?::[0-9]*+)?(?=[/?#]|\Z)"
)
_TAIL = r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*+)?(?:#[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*+)?"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*+:"
_HIERARCHY = rf"(?://{_AUTHORITY}{_SEGMENTS}|(?!//){_SEGMENTS})"
_ABSOLUTE = re.compile(rf"{_SCHEME}{_HIERARCHY}{_TAIL}").fullmatch
_RELATIVE = re.compile(rf"(?![^/?#]*:){_HIERARCHY}{_TAIL}").fullmatch
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})").search

_TIMESTAMP = re.compile(
    r"([0-9]{4})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]|(29)))"
    r"[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]++"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f-\U0010ffff]|\\[\t\x20-\x7e])*+"'
_MEDIA_TYPE = re.compile(
    rf"{_WORD}/{_WORD}(?:[ \t]*+;(?:[ \t]*+{_WORD}=(?:{_WORD}|{_QUOTED}))?)*+[ \t]*+"
).fullmatch
_ENCODING = re.compile(_WORD).fullmatch


def name_fault(name: str) -> str | None:
    """Return what an attribute name must be if `name` is not valid, else None. The event formats
    reserve `data`.
    """
    if not _NAME(name):
        return "must be named with lower-case ASCII letters and digits only"
    if len(name) > NAME_LENGTH_MAX:
        return f"must have a name of at most {NAME_LENGTH_MAX} characters"
    if name == "data":
        return "must not be named data"
    return None


POSITION_ATTRIBUTES = ("knativekafkapartition", "knativekafkaoffset")
"""Attributes that Knative's Kafka broker adds on delivery: the event's position in the Broker's
topic.
"""
_PRIVATE = frozenset({"knativebrokerttl", *POSITION_ATTRIBUTES})


def is_private(name: str) -> bool:
    """Whether an attribute is internal. Internal attributes are removed when events are received
    and when they are sent.

    `knativebrokerttl` is Knative's hop counter; names that start with `headrace` are Headrace's
    own. The `knativeerror…` attributes of dead letters are not internal: they must be kept when a
    dead letter is sent to a sink that is itself an address of this ingress. `POSITION_ATTRIBUTES`
    are added to each request; a value that a sender or a reply supplies under these names refers to
    another topic and is removed.
    """
    return name in _PRIVATE or name.startswith("headrace")


def string_fault(text: str) -> str | None:
    """Apply the rules for every string value: no control characters, surrogates or noncharacters
    (type system, `String`), and limited length.
    """
    if (
        len(text) > VALUE_BYTES_MAX // 4
        and len(text.encode("utf-8", "surrogatepass")) > VALUE_BYTES_MAX
    ):
        return f"must have at most {VALUE_BYTES_MAX} bytes in UTF-8"
    # Printable text contains none of them. Checking the set for each character is much faster than
    # a regular expression of these ranges.
    if not text.isprintable() and not _FORBIDDEN.isdisjoint(text):
        return "must not contain control characters, lone surrogates or Unicode noncharacters"
    return None


def is_uri_reference(text: str) -> bool:
    """Whether `text` is a URI reference (RFC 3986 section 4.1)."""
    return bool(_RELATIVE(text) or _ABSOLUTE(text)) and not _BROKEN_PERCENT(text)


def is_absolute_uri(text: str) -> bool:
    """Whether `text` is an absolute URI (RFC 3986 section 4.3). A fragment is allowed, because
    schemas are often addressed by a fragment and the SDKs accept it.
    """
    return bool(_ABSOLUTE(text)) and not _BROKEN_PERCENT(text)


def is_timestamp(text: str) -> bool:
    """Whether `text` is a time of RFC 3339 section 5.6 in the Gregorian calendar. Second 60 is
    accepted as a leap second.
    """
    match = _TIMESTAMP(text)
    if match is None:
        return False
    if match[2] is None:  # not the last day of a leap year's February
        return True
    year = int(match[1])
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def is_media_type(text: str) -> bool:
    """Whether `text` is `type/subtype` with optional parameters (RFC 2045 section 5.1, with the
    spaces that RFC 9110 allows).
    """
    return bool(_MEDIA_TYPE(text))


def is_json(media_type: str) -> bool:
    """Whether data of this media type is JSON: `*/json` or `*/*+json`, ignoring parameters (JSON
    format, section 3.1.1).
    """
    essence = media_type.partition(";")[0].strip().lower()
    return essence.endswith(("/json", "+json"))


def non_empty(text: str) -> str | None:
    """Check `subject`, `id` or `type`: if present, not empty."""
    return None if text else "must not be empty"


def uri_reference(text: str) -> str | None:
    """Check `source`, and `schemaurl` in 0.3."""
    return (
        None
        if text and is_uri_reference(text)
        else "must be a non-empty URI reference (RFC 3986), with other characters percent-encoded"
    )


def absolute_uri(text: str) -> str | None:
    """Check `dataschema`."""
    return None if is_absolute_uri(text) else "must be an absolute URI (RFC 3986)"


def timestamp(text: str) -> str | None:
    """Check `time` or `knativearrivaltime`."""
    return None if is_timestamp(text) else "must be an RFC 3339 time, such as 2018-04-05T17:31:00Z"


def media_type(text: str) -> str | None:
    """Check `datacontenttype`.

    A CloudEvent as the data of another event is refused. In binary mode its media type would
    replace that of the message, and the next reader would parse the data as the event.
    """
    if text[:23].lower() == "application/cloudevents":
        return (
            "must not be a CloudEvents format; send the inner event itself, or its data under"
            " another media type"
        )
    return (
        None if is_media_type(text) else "must be a media type (RFC 2046), such as application/json"
    )


def partition_key(text: str) -> str | None:
    """Check `partitionkey`, which becomes the record's key."""
    if not text:
        return "must not be empty"
    if len(text.encode()) > PARTITION_KEY_BYTES_MAX:
        return f"must have at most {PARTITION_KEY_BYTES_MAX} bytes in UTF-8"
    return None


def content_encoding(text: str) -> str | None:
    """Check `datacontentencoding` of 0.3 (RFC 2045 section 6.1)."""
    return (
        None
        if _ENCODING(text)
        else "must be a content transfer encoding (RFC 2045), such as base64"
    )


_COMMON: Mapping[str, Rule] = {
    "id": non_empty,
    "source": uri_reference,
    "type": non_empty,
    "subject": non_empty,
    "time": timestamp,
    "datacontenttype": media_type,
    "partitionkey": partition_key,
    "knativearrivaltime": timestamp,
}
_RULES: Mapping[str, Mapping[str, Rule]] = {
    "1.0": {**_COMMON, "dataschema": absolute_uri},
    "0.3": {**_COMMON, "schemaurl": uri_reference, "datacontentencoding": content_encoding},
}


def rules(specversion: object) -> Mapping[str, Rule]:
    """Return the rules that apply in addition to `string_fault`, by attribute name.

    Raises `InvalidEvent` for an unsupported version.
    """
    found = _RULES.get(specversion) if isinstance(specversion, str) else None
    if found is None:
        raise InvalidEvent("specversion", f"must be one of {', '.join(SPEC_VERSIONS)}")
    return found


def missing(name: str) -> InvalidEvent:
    """Return the error for an event without the required attribute `name`."""
    return InvalidEvent(name, "is missing; every event must have " + ", ".join(REQUIRED))


def canonical(value: Value) -> str:
    """Return the canonical string of a value: `true`, `-1`, or the string itself."""
    if value is True:
        return "true"
    return "false" if value is False else str(value)


def check(attributes: Mapping[str, Value]) -> None:
    """Raise `InvalidEvent` for the first rule that the attributes break."""
    for name in REQUIRED:
        if name not in attributes:
            raise missing(name)
    by_name = rules(attributes["specversion"])
    if len(attributes) > ATTRIBUTES_MAX:
        raise InvalidEvent(None, f"must have at most {ATTRIBUTES_MAX} attributes")
    size = 0
    for name, value in attributes.items():
        fault = name_fault(name) or value_fault(by_name, name, value)
        if fault is not None:
            raise InvalidEvent(name, fault)
        size += len(name) + (len(value.encode()) if isinstance(value, str) else 11)
    if size > ATTRIBUTES_BYTES_MAX:
        raise InvalidEvent(None, f"must have at most {ATTRIBUTES_BYTES_MAX} bytes of attributes")


def value_fault(by_name: Mapping[str, Rule], name: str, value: Value) -> str | None:
    """Return what the value of attribute `name` must be if it is not valid, else None.

    `by_name` is the result of `rules` for this event.
    """
    rule = by_name.get(name)
    if isinstance(value, str):
        return string_fault(value) or (rule(value) if rule else None)
    if rule is not None:
        return "must be a string"
    if not isinstance(value, bool) and not -(2**31) <= value < 2**31:
        return "must be an integer of 32 bits (-2147483648 to 2147483647)"
    return None
