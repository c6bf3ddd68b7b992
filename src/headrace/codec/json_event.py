"""Single events and batches in the CloudEvents JSON format.

JSON data keeps exactly the bytes that it has in the text. It is not decoded and encoded again, so
digits, key order and white space inside `data` do not change.
"""

import json
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Mapping

from headrace.codec.json_text import Member, Text, is_valid
from headrace.codec.json_text import read as read_text
from headrace.domain import attributes
from headrace.domain.event import BatchTooLarge, Event, InvalidEvent, Value

_CHARSETS: Mapping[str, str] = {
    "": "utf-8",
    "utf-8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
}


def read(text: bytes) -> Event:
    """Return the event of a JSON text. Raises `InvalidEvent`.

    A member that is null counts as absent, except JSON `data`.
    """
    json_text = read_text(text)
    event, end = _read_at(json_text, json_text.next(0))
    json_text.finish(end)
    return event


def read_batch(text: bytes, events_max: int) -> list[Event]:
    """Return the events of a JSON array, which may be empty.

    Raises `InvalidEvent` with the index of the first invalid event, and `BatchTooLarge` as soon as
    there are more than `events_max` events.
    """
    json_text = read_text(text)
    events: list[Event] = []

    def take(at: int) -> int:
        if len(events) == events_max:
            raise BatchTooLarge(events_max)
        event, end = _read_in_batch(json_text, at, events)
        events.append(event)
        return end

    json_text.elements(json_text.next(0), take)
    return events


def write(event: Event) -> bytes:
    """Return the event as JSON text.

    JSON data is embedded unchanged, text is written as a string, and all other data in base64.
    """
    data = event.data
    members = dict(event.attributes)
    tail = ""
    if data is not None:
        media_type = members.get("datacontenttype")
        older = members.get("specversion") == "0.3"
        if older and "datacontentencoding" in members:
            # The data of a 0.3 event with this attribute is base64 text already.
            media_type = "text/plain"
        text = _as_text(media_type, data)
        if text is not None and isinstance(media_type, str) and attributes.is_json(media_type):
            tail = f',"data":{text}'
        elif text is not None:
            tail = f',"data":{json.dumps(text, ensure_ascii=False)}'
        else:
            member = "data" if older else "data_base64"
            tail = f',"{member}":"{b2a_base64(data, newline=False).decode()}"'
            if older:
                members["datacontentencoding"] = "base64"
    return f"{json.dumps(members, ensure_ascii=False, separators=(',', ':'))[:-1]}{tail}}}".encode()


def _read_in_batch(text: Text, at: int, before: list[Event]) -> tuple[Event, int]:
    index = len(before)
    try:
        event, end = _read_at(text, at)
        if before and before[0].attributes["specversion"] != event.attributes["specversion"]:
            raise InvalidEvent("specversion", "must be the same in all events of a batch")
    except InvalidEvent as fault:
        raise fault.at(index) from None
    return event, end


def _read_at(text: Text, at: int) -> tuple[Event, int]:
    members, end = text.members(at, attributes.ATTRIBUTES_MAX + 2)
    data = members.pop("data", None)
    coded = members.pop("data_base64", None)
    found = {
        name: _attribute(name, member.value)
        for name, member in members.items()
        if member.value is not None
    }
    attributes.check(found)
    media_type = found.get("datacontenttype")
    if isinstance(media_type, str):
        # A header cannot end with a space, so in binary mode the value would change.
        found["datacontenttype"] = media_type.rstrip(" ")
    if found["specversion"] == "0.3":
        if coded is not None:
            raise InvalidEvent(
                "data_base64",
                "is not part of CloudEvents 0.3; send data with datacontentencoding base64",
            )
        encoding = found.get("datacontentencoding")
        if data is not None and isinstance(encoding, str) and encoding.lower() == "base64":
            # It describes the JSON text; from here on, the data is bytes.
            del found["datacontentencoding"]
            data, coded = None, data
    if data is not None and coded is not None:
        raise InvalidEvent("data", "must not be given together with data_base64")
    if coded is not None:
        return Event(found, _decode_base64(coded.value)), end
    return Event(found, None if data is None else _data(text.text, data, found)), end


def _attribute(name: str, value: object) -> Value:
    if isinstance(value, str | int):
        return value
    raise InvalidEvent(name, "must be a string, an integer or a boolean")


def _data(text: str, member: Member, found: dict[str, Value]) -> bytes | None:
    media_type = found.setdefault("datacontenttype", "application/json")
    if not isinstance(media_type, str) or attributes.is_json(media_type):
        return text[member.start : member.end].encode()
    if member.value is None:
        return None
    if not isinstance(member.value, str):
        raise InvalidEvent("data", "must be a string unless datacontenttype is JSON")
    encoding = _CHARSETS.get(_charset(media_type))
    if encoding is None:
        raise InvalidEvent(
            "data",
            "must be UTF-8, or be sent in data_base64 (known charsets:"
            f" {', '.join(filter(None, _CHARSETS))})",
        )
    try:
        return member.value.encode(encoding)
    except UnicodeEncodeError:
        raise InvalidEvent(
            "data", "has characters that the charset of datacontenttype does not"
        ) from None


def _decode_base64(value: object) -> bytes | None:
    if value is None:
        return None
    try:
        return (
            a2b_base64(value.encode("ascii"), strict_mode=True)
            if isinstance(value, str)
            else _no_base64()
        )
    except (Error, UnicodeEncodeError):
        return _no_base64()


def _no_base64() -> bytes:
    raise InvalidEvent("data", "must be standard base64 with padding (RFC 4648) in data_base64")


def _charset(media_type: str) -> str:
    for parameter in media_type.lower().split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            return value.strip().strip('"')
    return ""


def _as_text(media_type: Value | None, data: bytes) -> str | None:
    """Return the data as text for a JSON document, or None if only base64 keeps its bytes.

    JSON data is embedded as it is; other text is written as a string.
    """
    if not isinstance(media_type, str):
        return None
    if attributes.is_json(media_type):
        return data.decode() if is_valid(data) else None
    essence = media_type.partition(";")[0].strip().lower()
    textual = essence.startswith("text/") or essence.endswith(("/xml", "+xml"))
    if not textual or _CHARSETS.get(_charset(media_type)) not in ("utf-8", "ascii"):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
