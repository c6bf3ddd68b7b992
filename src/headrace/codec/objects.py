"""JSON objects of the control plane (resources, API bodies, stored records), read strictly and written canonically.

Strict means: UTF-8, one object, no duplicate keys (the last would win in silence), no NaN, and bounds on size, depth and number of
values, checked before anything recursive sees the text.
"""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn

BYTES_MAX = 256 * 1024
DEPTH_MAX = 64
VALUES_MAX = 20_000
_DIGITS_MAX = 300


class InvalidObject(ValueError):
    """The text is not an object we take; the message says why."""


class ObjectTooLarge(InvalidObject):
    """The text exceeds the size limit."""


def read_object(text: bytes, *, bytes_max: int = BYTES_MAX) -> dict[str, Any]:
    """Read one JSON object; raises InvalidObject, and ObjectTooLarge past `bytes_max`."""
    if len(text) > bytes_max:
        raise ObjectTooLarge(f"{len(text)} bytes; an object may have {bytes_max}")
    check_nesting(text)
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise InvalidObject(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise InvalidObject(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    if not isinstance(found, dict):
        raise InvalidObject("the text must hold one JSON object")
    check_size(found)
    return found


def write_object(document: Mapping[str, Any]) -> bytes:
    """Write an object: compact, keys sorted, so that equal objects are equal bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode("utf-8")


def check_nesting(text: bytes) -> None:
    """Refuse text that nests deeper than we walk. Counts brackets outside strings; the JSON parser would recurse once per bracket."""
    depth, quoted, escaped = 0, False, False
    for byte in text:
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise InvalidObject(f"nested deeper than {DEPTH_MAX} levels")
        elif byte in b"]}":
            depth -= 1


def check_size(document: Any) -> None:
    """Refuse a document of more values, or deeper, than we walk, or with values that JSON does not have. Walks without recursion."""
    waiting: list[tuple[Any, int]] = [(document, 1)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > VALUES_MAX:
            raise InvalidObject(f"more than {VALUES_MAX} values")
        if depth > DEPTH_MAX:
            raise InvalidObject(f"nested deeper than {DEPTH_MAX} levels")
        if isinstance(value, dict):
            waiting += ((each, depth + 1) for each in value.values())
        elif isinstance(value, list):
            waiting += ((each, depth + 1) for each in value)
        elif not (value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))):
            raise InvalidObject(f"a value of type {type(value).__name__} that JSON does not have")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidObject(f'duplicate field "{key[:100]}"')
        found[key] = value
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidObject(f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise InvalidObject(f"a number of {len(digits)} digits")
    return int(digits)
