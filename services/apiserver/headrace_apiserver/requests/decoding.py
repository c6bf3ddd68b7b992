"""Decodes the body of a request, JSON, YAML or protobuf, within limits of size, depth, number of
values and time.

A duplicate key is not rejected here, because that depends on `fieldValidation`: as in Kubernetes,
the last value counts, and the paths of duplicates are returned.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace.codec.objects import (
    BYTES_MAX,
    VALUES_MAX,
    InvalidObject,
    check_nesting,
    check_size,
    check_values,
)
from headrace_apiserver.requests.protobuf import MEDIA_TYPE as PROTOBUF
from headrace_apiserver.requests.protobuf import decode_protobuf
from headrace_apiserver.statuses import (
    StatusError,
    bad_request,
    failure,
    too_large,
    unsupported_media_type,
)

JSON = "application/json"
YAML = ("application/yaml", "application/x-yaml", "text/yaml")
OBJECT_TYPES = (JSON, *YAML, PROTOBUF)
DEFINITION_BYTES_MAX = 768 * 1024
"""Size of a CRD, by far the largest object that users apply. With what a client adds it must fit
into a record of 1 MB.
"""
_BODY_SECONDS = 15.0
_INLINE_BYTES = 16 * 1024
"""Larger bodies are parsed in a thread, so that they do not block the event loop."""
_DUPLICATES_MAX = 10
_DIGITS_MAX = 20
_LENGTH_DIGITS_MAX = 18
_OUT_OF_RANGE = 1 << 64
_PATH_LENGTH_MAX = 300


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded document."""

    document: Any
    duplicates: tuple[str, ...] = ()
    """Paths of duplicate fields."""


def media_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, bytes_max: int = BYTES_MAX) -> bytes:
    """The bytes of the body. Raises StatusError 413, 408 if they do not arrive in time, and 400 if
    the client disconnects.
    """
    length = request.headers.get("content-length", "0")
    if (
        length.isascii()
        and length.isdecimal()
        and (len(length) > _LENGTH_DIGITS_MAX or int(length) > bytes_max)
    ):
        raise too_large(f"{length[:_LENGTH_DIGITS_MAX]} bytes; limit is {bytes_max}")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > bytes_max:
                    raise too_large(f"more than {bytes_max} bytes")
                parts.append(part)
    except ClientDisconnect:
        # No client will read this.
        raise bad_request("the client closed the connection before the body was complete") from None
    except TimeoutError:
        raise failure(
            408, "Timeout", f"the body did not arrive within {_BODY_SECONDS:g} s"
        ) from None
    return b"".join(parts)


async def read_document(text: bytes, type_: str) -> Body:
    """An object in any of `OBJECT_TYPES`. Raises StatusError 400 or 415."""
    if type_ == JSON:
        body = await parsed_json(text)
    elif type_ in YAML:
        body = await parsed_yaml(text)
    elif type_ == PROTOBUF:
        body = Body(decode_protobuf(text))
    else:
        raise unsupported_media_type(OBJECT_TYPES)
    if not isinstance(body.document, dict):
        raise bad_request("the object provided cannot be read: the body must hold one object")
    return body


async def parsed_json(text: bytes) -> Body:
    """Any JSON value. Raises StatusError 400."""
    return (
        _parse_json(text)
        if len(text) <= _INLINE_BYTES
        else await asyncio.to_thread(_parse_json, text)
    )


async def parsed_yaml(text: bytes) -> Body:
    """One YAML document, which may be written as JSON. Raises StatusError 400."""
    if text.lstrip()[:1] == b"{":
        return await parsed_json(text)
    return Body(await asyncio.to_thread(_parse_yaml, text))


def _parse_yaml(text: bytes) -> Any:
    try:
        documents = read_manifests(text, "body")
    except InvalidManifest as error:
        raise _unreadable(str(error)) from error
    try:
        for each in documents:
            check_values(each.document)
    except InvalidObject as error:
        raise _unreadable(str(error)) from error
    if len(documents) != 1:
        raise _unreadable(f"the body holds {len(documents)} documents, one is needed")
    return documents[0].document


class _DuplicateFields(dict[str, Any]):
    """An object with duplicate keys."""

    __slots__ = ("names",)
    names: list[str]


def _parse_json(text: bytes) -> Body:
    seen: list[_DuplicateFields] = []
    fields = 0

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal fields
        fields += len(entries)
        if fields > VALUES_MAX:
            # `check_size` alone would not count values that a later field of the same name has
            # replaced.
            raise InvalidObject(f"more than {VALUES_MAX} values")
        found = dict(entries)
        if len(found) == len(entries):
            return found
        marked = _DuplicateFields(found)
        marked.names = sorted(
            name for name, times in Counter(name for name, _ in entries).items() if times > 1
        )[:_DUPLICATES_MAX]
        seen.append(marked)
        return marked

    try:
        check_nesting(text)
        document = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_constant=_constant,
            parse_int=_integer,
        )
        # The values first, because errors in them name the field.
        check_values(document)
        check_size(document)
    except UnicodeDecodeError as error:
        raise _unreadable(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _unreadable(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except ValueError as error:  # InvalidObject, and numbers of thousands of digits
        raise _unreadable(str(error)) from error
    return Body(document, tuple(_paths(document)) if seen else ())


def _integer(digits: str) -> int:
    # Python raises an error for thousands of digits; a number out of range is rejected later, with
    # the name of its field.
    return int(digits) if len(digits) <= _DIGITS_MAX else _OUT_OF_RANGE


def _constant(name: str) -> Any:
    raise InvalidObject(f"{name} is not a JSON number")


def _paths(document: Any) -> list[str]:
    """The paths of duplicate keys in a document."""
    found: list[str] = []
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting and len(found) < _DUPLICATES_MAX:
        path, value = waiting.pop()
        if isinstance(value, _DuplicateFields):
            found += (_within(f"{path}.{name}") for name in value.names)
        if isinstance(value, dict):
            # Cut at every level: a name can be as long as the body, and is part of every path below
            # it.
            waiting += ((_within(f"{path}.{name}"), each) for name, each in value.items())
        elif isinstance(value, list):
            waiting += ((_within(f"{path}[{index}]"), each) for index, each in enumerate(value))
    return sorted(found)[:_DUPLICATES_MAX]


def _within(path: str) -> str:
    return path.lstrip(".")[:_PATH_LENGTH_MAX]


def _unreadable(why: str) -> StatusError:
    return bad_request(f"the object provided cannot be read: {why}")
