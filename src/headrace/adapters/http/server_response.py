"""Answers of the HTTP door as bytes: status line, headers, and what every answer carries.

The server appends `date` and, where the connection ends, `connection: close`; everything else is
said here.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE_LINE: Final = b"connection: close\r\n"
KEEP_ALIVE_LINE: Final = b"connection: keep-alive\r\n"
"""For HTTP/1.0 clients that asked for it: without it they expect the connection to end."""


class PreparedResponse:
    """An answer made once and sent many times.

    `head` ends after the last of its own fields, so that the server's fields can follow.
    """

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, fields: Fields = (), body: bytes = b"") -> None:
        self.status = status
        self.head = response_head(status, fields, len(body))
        self.body = body


def response_head(status: int, fields: Fields, body_bytes: int) -> bytes:
    """Status line and fields, without the empty line that ends them.

    Raises ValueError for a field with a CR or LF in it, which would let the author of the text
    write headers of its own.
    """
    lines = [b"HTTP/1.1 %d %s" % (status, _reason(status))]
    for name, value in fields:
        if b"\n" in value or b"\r" in value or b"\n" in name or b"\r" in name:
            raise ValueError(f"header field {name!r} holds a line break")
        lines.append(name + b": " + value)
    if status != HTTPStatus.NO_CONTENT:
        lines.append(b"content-length: %d" % body_bytes)
    return b"\r\n".join(lines) + b"\r\n"


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
