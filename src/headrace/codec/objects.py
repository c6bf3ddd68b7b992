"""JSON objects of the control plane: resources, API bodies and stored records.

They are read strictly and written canonically. Strict means: UTF-8, one object, no duplicate keys
(the last one would silently win), no NaN, and limits on size, depth and number of values that are
checked before any recursive code processes the text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import isfinite
from typing import Any, NoReturn

BYTES_MAX = 256 * 1024
DEPTH_MAX = 64
VALUES_MAX = 20_000
_DIGITS_MAX = 300
_INTEGER_LIMIT = 1 << 63
_PLACE_MAX = 300
_HALF = "half of a character (a lone surrogate) in a text"
_WIDE = f"an integer must be of 64 bits, {-_INTEGER_LIMIT} to {_INTEGER_LIMIT - 1}"
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. A string without an end extends to the end of the text; the parser rejects it
later.
"""
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Maps brackets to signed bytes whose running sum is the depth."""
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class InvalidObject(ValueError):
    """The text is not an acceptable object; the message says why."""


class ObjectTooLarge(InvalidObject):
    """The text exceeds the size limit."""


def read_object(text: bytes, *, bytes_max: int = BYTES_MAX) -> dict[str, Any]:
    """Read one JSON object. Raises `InvalidObject`, and `ObjectTooLarge` above `bytes_max`."""
    if len(text) > bytes_max:
        raise ObjectTooLarge(f"{len(text)} bytes; an object may have {bytes_max}")
    check_nesting(text)
    try:
        found = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_pairs,
            parse_constant=_constant,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise InvalidObject(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise InvalidObject(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    if not isinstance(found, dict):
        raise InvalidObject("the text must hold one JSON object")
    check_size(found)
    return found


def write_object(document: Mapping[str, Any]) -> bytes:
    """Write an object in compact form with sorted keys, so that equal objects are equal bytes."""
    return json.dumps(
        document, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
    ).encode("utf-8")


def check_nesting(text: bytes) -> None:
    """Raise `InvalidObject` for text that is nested more than `DEPTH_MAX` levels deep.

    Counts brackets outside strings, because the JSON parser would recurse once per bracket.
    """
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return
    steps = memoryview(_STRING.sub(b"", text).translate(_STEPS, _NOT_BRACKETS)).cast("b")
    if max(accumulate(steps), default=0) > DEPTH_MAX:
        raise InvalidObject(f"nested deeper than {DEPTH_MAX} levels")


def check_size(document: Any) -> None:
    """Raise `InvalidObject` for a document that is too large or has values that JSON does not have.

    The limits are `VALUES_MAX` values and `DEPTH_MAX` levels. The check is not recursive.
    """
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
        elif not (
            value is None
            or isinstance(value, str | int)
            or (isinstance(value, float) and isfinite(value))
        ):
            raise InvalidObject(f"a value of type {type(value).__name__} that JSON does not have")


def check_values(document: Any) -> None:
    """Raise `InvalidObject` for values that not all clients and stores read in the same way.

    Use it for documents from outside; the message names the field. Integers must fit 64 bits and
    numbers must be finite doubles, as in Kubernetes. Text must be Unicode without lone surrogates.
    """
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if _fault(value):
            place, why = next(_faults(document))
            raise InvalidObject(f"{place}: {why}" if place else why)
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def stored_bytes(document: Mapping[str, Any], *, bytes_max: int) -> bytes:
    """Return the text to store for an object, after reading it back.

    Reading it back ensures that an acknowledged object can be read. Raises `InvalidObject`.
    """
    try:
        text = write_object(document)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidObject(f"the object cannot be written: {str(error)[:_PLACE_MAX]}") from error
    read_object(text, bytes_max=bytes_max)
    return text


def _fault(value: Any) -> str:
    """Return what is wrong with a value itself, not with values inside it; empty if nothing is."""
    if isinstance(value, str):
        return _HALF if _SURROGATE.search(value) else ""
    if isinstance(value, float):
        return "" if isfinite(value) else "a number must be finite and fit a double"
    if isinstance(value, int):
        return "" if -_INTEGER_LIMIT <= value < _INTEGER_LIMIT else _WIDE
    if isinstance(value, dict):
        return next((_HALF for name in value if _SURROGATE.search(name)), "")
    return ""


def _faults(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the fault of each invalid value in a document.

    Use it only for a document that has a fault, because it builds the path of every value.
    """
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        place, value = waiting.pop()
        if why := _fault(value):
            yield place, why
        if isinstance(value, dict):
            waiting += ((_within(f"{place}.{name}"), each) for name, each in value.items())
        elif isinstance(value, list):
            waiting += ((_within(f"{place}[{index}]"), each) for index, each in enumerate(value))


def _within(place: str) -> str:
    return place.lstrip(".")[:_PLACE_MAX].encode("utf-8", "replace").decode()


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
