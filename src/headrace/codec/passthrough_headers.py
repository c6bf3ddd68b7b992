"""Which headers travel with an event without being part of it.

One list for both directions and both protocols: what is not on it ends at the door, credentials and
cookies first of all. Ours (`headrace_…`) are on no list: from outside they are dropped, and they
are never sent.
"""

from headrace.codec.percent import FIELD_TEXT

VALUE_BYTES_MAX = 8_192

_NAMES = frozenset({"traceparent", "tracestate", "x-request-id"})
_PREFIXES = ("knative-", "x-b3-")
_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def is_passthrough(name: str) -> bool:
    """Whether a header of this (lower-case) name goes from producer to subscriber and from response
    to reply.
    """
    return name in _NAMES or (
        name.startswith(_PREFIXES) and len(name) <= 64 and _NAME_LETTERS.issuperset(name)
    )


def passthrough_value(value: bytes) -> bytes | None:
    """The value as it is passed on, or None for one that is dropped: it could break the lines of a
    request, or is beyond all measure.
    """
    value = value.strip(b" \t")
    if len(value) > VALUE_BYTES_MAX or value.translate(None, FIELD_TEXT):
        return None
    return value
