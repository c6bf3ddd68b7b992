"""The headers that are passed on with an event without being part of it.

One list applies to both directions and both protocols. All other headers are dropped, most
importantly credentials and cookies. Private headers (`headrace_…`) are not on the list: they are
dropped from incoming messages and never sent.
"""

from headrace.codec.percent import FIELD_TEXT

VALUE_BYTES_MAX = 8_192

_NAMES = frozenset({"traceparent", "tracestate", "x-request-id"})
_PREFIXES = ("knative-", "x-b3-")
_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def is_passthrough(name: str) -> bool:
    """Return whether a header with this lower-case name is passed on.

    It is passed on from producer to subscriber, and from response to reply.
    """
    return name in _NAMES or (
        name.startswith(_PREFIXES) and len(name) <= 64 and _NAME_LETTERS.issuperset(name)
    )


def passthrough_value(value: bytes) -> bytes | None:
    """Return the value as it is passed on, or None if it is dropped.

    A value is dropped if it could break the lines of a request or is longer than `VALUE_BYTES_MAX`.
    """
    value = value.strip(b" \t")
    if len(value) > VALUE_BYTES_MAX or value.translate(FIELD_TEXT) != value:
        return None
    return value
