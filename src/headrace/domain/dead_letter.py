"""The error extensions of a dead letter, as consumers of Knative's dead letters expect them.

They are record headers in the form of the CloudEvents Kafka binding (`ce_` names, UTF-8 values).
"""

from base64 import b64encode

from headrace.domain.attributes import POSITION_ATTRIBUTES
from headrace.domain.delivery import Outcome

ERROR_DATA_MAX = 1024
"""Bytes of the response body that are kept, before base64 encoding."""
KNE_HEADERS_MAX = 16
KNE_NAME_MAX = 32
KNE_VALUE_MAX = 1024

_PREFIX = b"kne-"
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")
_TAKEN = frozenset(
    {
        "id",
        "source",
        "type",
        "specversion",
        "subject",
        "time",
        "data",
        "datacontenttype",
        "dataschema",
        "datacontentencoding",
        "schemaurl",
        "partitionkey",
        "knativearrivaltime",
        "knativeerrordest",
        "knativeerrorcode",
        "knativeerrordata",
        *POSITION_ATTRIBUTES,
    }
)
"""Names that a subscriber may not set: they belong to the event or explain the failure."""


def error_extensions(destination_url: str, outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return the headers that explain a dead letter.

    `ce_knativeerrordest` is the URL that failed; it is absent if there is none, because an
    attribute must not be empty. `ce_knativeerrorcode` is the status, absent if there was no
    response. `ce_knativeerrordata` is base64 of the first 1,024 bytes of the response body, absent
    if there was none. A response header `kne-<name>` becomes the extension `<name>` if its name and
    value are valid in a CloudEvent and within the limits above, and the name does not belong to the
    event; other headers are ignored.
    """
    extensions = [("ce_knativeerrordest", destination_url.encode())] if destination_url else []
    if outcome.status is not None:
        extensions.append(("ce_knativeerrorcode", b"%d" % outcome.status))
    if outcome.body:
        extensions.append(("ce_knativeerrordata", b64encode(outcome.body[:ERROR_DATA_MAX])))
    extensions.extend(_kne_extensions(outcome))
    return extensions


def _kne_extensions(outcome: Outcome) -> list[tuple[str, bytes]]:
    found: dict[str, bytes] = {}
    for header, value in outcome.headers:
        if not header.startswith(_PREFIX) or len(found) == KNE_HEADERS_MAX:
            continue
        name = header[len(_PREFIX) :]
        if _is_name(name) and _is_value(value):
            found.setdefault(f"ce_{name.decode()}", value)
    return list(found.items())


def _is_name(name: bytes) -> bool:
    return (
        0 < len(name) <= KNE_NAME_MAX and _LETTERS.issuperset(name) and name.decode() not in _TAKEN
    )


def _is_value(value: bytes) -> bool:
    """Whether a header value is a valid, non-empty CloudEvents string.

    CloudEvents strings have no control characters (1.0.2, type system). Otherwise they would allow
    header injection when the attribute is sent as an HTTP header.
    """
    if not 0 < len(value) <= KNE_VALUE_MAX:
        return False
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False
