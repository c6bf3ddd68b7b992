"""Decodes the protobuf bodies that Go clients send for core kinds, into the JSON object that the
same client would have sent. (pure)

Responses are never protobuf: every client accepts JSON. A kind that is not in `protobuf_fields` is
rejected with 415, so that the client or its user sends JSON. Unknown fields are ignored, as usual
with protobuf. Every length is checked against the input before it is used, and messages nest only
as deep as their definitions.
"""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.codec.objects import InvalidObject, check_size, check_values, read_object
from headrace_apiserver.requests.protobuf_fields import MESSAGES, ROOTS, WireField
from headrace_apiserver.statuses import unsupported_media_type

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ACCEPTED = ("application/json", "application/yaml")


def decode_protobuf(body: bytes) -> dict[str, Any]:
    """The object in a protobuf body. Raises InvalidObject for a malformed body, StatusError 415 for
    an unknown kind.
    """
    if not body.startswith(_MAGIC):
        raise InvalidObject("the body does not start like Kubernetes protobuf")
    envelope = _message(memoryview(body)[len(_MAGIC) :], "Unknown")
    about = envelope.get("typeMeta", {})
    api_version, kind = str(about.get("apiVersion", "")), str(about.get("kind", ""))
    root = ROOTS.get((api_version, kind))
    if root is None or envelope.get("contentEncoding"):
        raise unsupported_media_type(_ACCEPTED)
    document = {
        "apiVersion": api_version,
        "kind": kind,
        **_message(memoryview(base64.b64decode(envelope.get("raw", ""))), root),
    }
    check_values(document)
    check_size(document)
    return document


def _message(data: memoryview, name: str) -> dict[str, Any]:
    fields = MESSAGES[name]
    found: dict[str, Any] = {}
    for number, wire, value in _wire(data):
        field = fields.get(number)
        if field is not None:
            _take(found, field, wire, value)
    return {key: value for key, value in found.items() if value not in ({}, [], None)}


def _take(found: dict[str, Any], field: WireField, wire: int, value: int | memoryview) -> None:
    if field.mapped:
        key, text = _entry(_bytes(field, wire, value), field)
        found.setdefault(field.name, {})[key] = text
        return
    read = _value(field, wire, value)
    if field.repeated:
        found.setdefault(field.name, []).append(read)
    elif field.optional or read not in ("", 0, False):
        found[field.name] = read
    else:
        found.pop(field.name, None)


def _entry(data: memoryview, field: WireField) -> tuple[str, Any]:
    """A key and value of a map; either is left out if it is empty."""
    key, text = "", ""
    for number, wire, value in _wire(data):
        if number == 1:
            key = _text(field, _bytes(field, wire, value))
        elif number == 2:
            text = _value(field, wire, value)
    return key, text


def _value(field: WireField, wire: int, value: int | memoryview) -> Any:
    if field.type in ("int", "bool"):
        if not isinstance(value, int):
            raise InvalidObject(f"{field.name}: a number is expected")
        if field.type == "bool":
            return value != 0
        return value - (1 << 64) if value >= 1 << 63 else value
    data = _bytes(field, wire, value)
    match field.type:
        case "text":
            return _text(field, data)
        case "bytes":
            return base64.b64encode(data).decode()
        case "Time" | "MicroTime":
            return _time(field, _message(data, field.type))
        case "IntOrString":
            read = _message(data, field.type)
            return read.get("strVal", "") if read.get("type") else read.get("intVal", 0)
        case "FieldsV1":
            raw = base64.b64decode(_message(data, field.type).get("raw", ""))
            return read_object(raw) if raw else {}
    return _message(data, field.type)


def _time(field: WireField, read: Mapping[str, Any]) -> str | None:
    """An RFC 3339 time; None for one that was not set, which is an empty message."""
    if not read:
        return None
    try:
        moment = _EPOCH + timedelta(
            seconds=read.get("seconds", 0), microseconds=read.get("nanos", 0) // 1000
        )
    except OverflowError as error:
        raise InvalidObject(f"{field.name}: a time out of range") from error
    return moment.strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ" if field.type == "MicroTime" else "%Y-%m-%dT%H:%M:%SZ"
    )


def _bytes(field: WireField, wire: int, value: int | memoryview) -> memoryview:
    if wire != _LENGTH or not isinstance(value, memoryview):
        raise InvalidObject(f"{field.name}: a value with a length is expected")
    return value


def _text(field: WireField, data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidObject(f"{field.name}: not UTF-8 at byte {error.start}") from error


def _wire(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of every field of a message."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            length, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise InvalidObject(f"field {number} has the unknown wire type {wire}")
        if length > len(data) - position:
            raise InvalidObject(
                f"field {number} has {length} bytes, {len(data) - position} are there"
            )
        yield number, wire, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    for index in range(position, min(position + _VARINT_BYTES_MAX, len(data))):
        byte = data[index]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, index + 1
        shift += 7
    raise InvalidObject("a number has no end")
