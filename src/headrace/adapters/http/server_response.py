"""Serialization of HTTP responses: status line, header fields and body.

The server appends `date` and, if it closes the connection, `connection: close`. All other header
fields are written here.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE_LINE: Final = b"connection: close\r\n"
KEEP_ALIVE_LINE: Final = b"connection: keep-alive\r\n"
"""For HTTP/1.0 clients that requested it; without it they expect the connection to be closed."""


class PreparedResponse:
    """A response that is serialized once and sent many times.

    `head` ends after the last of its own fields, so that the server can append fields.
    """

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, fields: Fields = (), body: bytes = b"") -> None:
        self.status = status
        self.head = response_head(status, fields, len(body))
        self.body = body


def response_head(status: int, fields: Fields, body_bytes: int) -> bytes:
    """Return the status line and header fields, without the empty line that ends them.

    Raises ValueError for a field that contains CR or LF, which would allow header injection.
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
