"""Encode attribute values as HTTP header values, and decode them (HTTP binding, 3.1.3.2).

Values are percent-encoded; quoted strings are also decoded. Nearly all values need no encoding.
With `PLAIN`, a caller can test many values together: `joined.translate(PLAIN) == joined`, where
`joined = b"".join(values)`, if no byte of any value needs encoding.
"""

from headrace.codec.byte_tables import allowing

_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"%')
PLAIN = allowing(_PLAIN)
"""Allows bytes that do not change when they are encoded or decoded."""
FIELD_TEXT = allowing(bytes((0x09, *range(0x20, 0x7F))))
"""Allows bytes that a header other than an attribute may contain. Other bytes could end the line,
or the next hop could interpret them differently.
"""

_ENCODED = tuple(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in range(256))
_PIECE_BYTES = 16_384
_HEX = {
    bytes(pair, "ascii"): int(pair, 16)
    for pair in (
        high + low for high in "0123456789abcdefABCDEF" for low in "0123456789abcdefABCDEF"
    )
}


def encode(value: bytes) -> bytes:
    """Percent-encode UTF-8 text: space, double quote, percent, and all but printable ASCII."""
    if value.translate(PLAIN) == value:
        return value
    if len(value) <= _PIECE_BYTES:
        return b"".join([_ENCODED[byte] for byte in value])
    # In pieces: the time to build a list of a million parts grows faster than its length.
    return b"".join(
        [encode(value[at : at + _PIECE_BYTES]) for at in range(0, len(value), _PIECE_BYTES)]
    )


def decode(value: bytes) -> str:
    """Decode a quoted string, then one round of percent-encoding.

    Unnecessary encoding and lower-case digits are accepted. Raw UTF-8 from senders that do not
    encode is read as UTF-8, never as Latin-1. Raises ValueError with the rule that was violated;
    bytes that are not UTF-8, including overlong forms, are rejected whether they are encoded or
    not.
    """
    value = value.strip(b" \t")
    if value.startswith(b'"'):
        value = _unquote(value)
    if b"%" in value:
        first, *rest = value.split(b"%")
        try:
            value = first + b"".join([bytes((_HEX[part[:2]],)) + part[2:] for part in rest])
        except KeyError:
            raise ValueError(
                "must have two hexadecimal digits after every % (encode % itself as %25)"
            ) from None
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8, percent-encoded in headers") from None


def _unquote(value: bytes) -> bytes:
    """Return the text of a quoted string that spans the whole value (RFC 7230 section 3.2.6)."""
    out = bytearray()
    escaped = False
    for byte in value[1:-1]:
        if escaped or byte not in b'\\"':
            out.append(byte)
            escaped = False
        elif byte == 0x5C:
            escaped = True
        else:
            break
    else:
        if not escaped and len(value) >= 2 and value.endswith(b'"'):
            return bytes(out)
    raise ValueError(
        "must be one quoted string when it starts with a double quote (encode a literal one as %22)"
    )
