"""Records as NATS messages, without loss.

A NATS message has a subject, headers and a payload. Header names are tokens, and values are lines
of text without surrounding spaces; the client library reads repeated names as one. The record's
value is the payload, unchanged.

| in the record | in the message |
|---|---|
| header `ce_<attribute>` | `ce-<attribute>`, percent-encoded (NATS binding of CloudEvents 3.1.3) |
| another header whose name is a token and whose value is plain text | the same name and value |
| any other header, and a repeated name | `Headrace-Header-<n>`: name and value in base64 |
| key | `Headrace-Key`: the text, or `Headrace-Key-Base64` |
| no value, unlike an empty one | `Headrace-Value: null` |

The headers of a message keep the order of the record's.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from headrace.domain.record import Headers, Record

Message = tuple[dict[str, str], bytes]
"""Headers and payload."""

_KEY: Final = "Headrace-Key"
_KEY_BASE64: Final = "Headrace-Key-Base64"
_VALUE: Final = "Headrace-Value"
_NULL: Final = "null"
_OTHER: Final = "Headrace-Header-"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_RESERVED: Final = ("nats-", "headrace-", "ce-", "status", "description")
"""Names that begin like this, in any case, belong to NATS, to this module and to attributes."""
_PLAIN: Final = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
_UNQUOTED: Final = re.compile(rb"[!#$&-~]+")
"""Printable ASCII without space, `"` and `%`: what the HTTP binding does not encode either."""
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def encode(record: Record) -> Message:
    """Return the headers and the payload of a record's message."""
    headers: dict[str, str] = {}
    key, value = record.key, record.value
    if key is not None:
        if _PLAIN.fullmatch(key):
            headers[_KEY] = key.decode("ascii")
        else:
            headers[_KEY_BASE64] = base64.b64encode(key).decode("ascii")
    if value is None:
        headers[_VALUE] = _NULL
    for name, content in record.headers:
        plain = _plain_name(name)
        if plain is None or plain in headers:
            headers[f"{_OTHER}{len(headers)}"] = _encode_other(name, content)
        elif plain.startswith("ce-"):
            headers[plain] = (
                content.decode("ascii")
                if _UNQUOTED.fullmatch(content)
                else quote_from_bytes(content, safe=_SAFE)
            )
        elif _PLAIN.fullmatch(content):
            headers[plain] = content.decode("ascii")
        else:
            headers[f"{_OTHER}{len(headers)}"] = _encode_other(name, content)
    return headers, value or b""


def decode(headers: Mapping[str, str] | None, payload: bytes) -> Record:
    """Return the record of a message. Headers of NATS itself are left out.

    A message that another program wrote to the stream is a record too: nothing in it raises.
    """
    if headers is None:
        return Record(None, payload, ())
    key: bytes | None = None
    value: bytes | None = payload
    fields: list[tuple[str, bytes]] = []
    for name, content in headers.items():
        original = _original_name(name)
        if original is not None:
            if name.startswith("ce-") and "%" in content:
                fields.append((original, unquote_to_bytes(content)))
            else:
                fields.append((original, content.encode()))
        elif name.startswith(_OTHER):
            fields.append(_decode_other(name, content))
        elif name == _KEY:
            key = content.encode()
        elif name == _KEY_BASE64:
            key = _from_base64(content)
        elif name == _VALUE and content == _NULL and not payload:
            value = None
    return Record(key, value, fields)


@lru_cache(maxsize=1024)
def _plain_name(name: str) -> str | None:
    """The name under which a header can travel as it is, None if there is none."""
    if name.startswith("ce_"):
        name = "ce-" + name[3:]
        return name if len(name) > 3 and _TOKEN.fullmatch(name) else None
    if not _TOKEN.fullmatch(name) or name.lower().startswith(_RESERVED):
        return None
    return name


@lru_cache(maxsize=1024)
def _original_name(name: str) -> str | None:
    """The record's name for a header that travels as it is, else None."""
    if name.startswith("ce-"):
        return "ce_" + name[3:]
    return None if name.lower().startswith(_RESERVED) else name


def _encode_other(name: str, value: bytes) -> str:
    return (
        base64.b64encode(name.encode("utf-8", "surrogatepass")).decode("ascii")
        + "."
        + base64.b64encode(value).decode("ascii")
    )


def _decode_other(name: str, content: str) -> tuple[str, bytes]:
    encoded_name, _, encoded_value = content.partition(".")
    original, value = _from_base64(encoded_name), _from_base64(encoded_value)
    if original is None or value is None:
        return name, content.encode()
    return original.decode("utf-8", "replace"), value


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except binascii.Error:
        return None


def headers_size(headers: Headers) -> int:
    """Bytes of names and values."""
    return sum(len(name) + len(value) for name, value in headers)
