"""Reads the head of a request that has the form of one the parser has read before.

A client sends the same request line and the same header fields again and again, in the same order,
and only some of the values change. Such a head is compared line by line with an earlier one, and
only the lines that differ are examined: all others were accepted before, in the same place.

The result is that of the parser, by construction. A line that differs must have the name that it
had, and a value of visible ASCII characters; and the field must be one that says nothing about the
message itself, except Content-Length. Any other head is left to the parser.
"""

import weakref
from collections.abc import Callable, Sequence
from itertools import compress
from operator import ne
from typing import Final

from headrace.adapters.http.server_head import RequestHead, is_length
from headrace.codec.byte_tables import allowing
from headrace.domain.bounded_cache import ByteBoundedCache

_VISIBLE: Final = allowing(bytes(range(0x21, 0x7F)))
_MESSAGE_FIELDS: Final = frozenset(
    {b"connection", b"expect", b"host", b"te", b"transfer-encoding", b"upgrade"}
)
"""A head in which one of these has changed is left to the parser."""
_NO_LINE: Final = b"\r\n"
"""Begins no line, because lines are split here."""
_HEAD_BYTES_MAX: Final = 2_048
_CACHE_BYTES_MAX: Final = 1_048_576
_COPIES: Final = 4
"""How often the bytes of a head are counted: as a line, as a name and as a value, and once for the
objects.
"""


class RepeatedHead(RequestHead):
    """A head with which later ones are compared."""

    __slots__ = (
        "__weakref__",
        "_count",
        "_head_bytes_max",
        "_indexes",
        "_length",
        "_length_at",
        "_lines",
        "_prefixes",
    )

    def __init__(
        self,
        lines: list[bytes],
        sent: Sequence[bytes],
        parsed: RequestHead,
        head_bytes_max: int,
    ) -> None:
        """`lines` are those of the head and an empty one, `sent` the names as they were sent."""
        names = parsed.names
        super().__init__(
            parsed.method, parsed.target, names, parsed.values, parsed.host, parsed.framing
        )
        self._lines = lines[:-1]
        self._count = len(lines) - 1
        self._indexes = range(self._count)
        self._prefixes = [
            _NO_LINE,
            *(
                _NO_LINE if name in _MESSAGE_FIELDS else as_sent + b": "
                for name, as_sent in zip(names, sent, strict=True)
            ),
            _NO_LINE,
        ]
        self._head_bytes_max = head_bytes_max
        self._length = parsed.framing[0]
        self._length_at = names.index(b"content-length") + 1 if b"content-length" in names else 0

    def read(self, data: bytes) -> tuple[tuple[bytes, ...], bytes] | None:
        """Return the values of the fields and the body of another request; None if the parser has
        to read it. Method, target, names and Host are those of this head.

        `data` begins with the request, and is None too if it is not exactly one request.
        """
        lines = data.split(b"\r\n", self._count)
        if len(lines) <= self._count:
            return None
        body = lines[-1]
        values, length = list(self.values), self._length
        for at in compress(self._indexes, map(ne, lines, self._lines)):
            line, prefix = lines[at], self._prefixes[at]
            if not line.startswith(prefix):
                return None
            value = line[len(prefix) :]
            if not value or value.translate(_VISIBLE) != value:
                return None
            if at == self._length_at:
                if not is_length(value):
                    return None
                length = int(value)
            values[at - 1] = value
        if len(body) != length or len(data) - length > self._head_bytes_max:
            return None
        return tuple(values), body


def no_head() -> None:
    """The head of a connection that has none."""


class RepeatedHeads:
    """Heads that the parser has read, for all connections of a server: clients of one kind send
    heads of one form. Connections refer to them weakly, so that this cache limits their size.
    """

    def __init__(self, head_bytes_max: int) -> None:
        self._head_bytes_max = min(head_bytes_max, _HEAD_BYTES_MAX)
        self._heads: ByteBoundedCache[tuple[bytes, bytes, tuple[bytes, ...]], RepeatedHead] = (
            ByteBoundedCache(bytes_max=_CACHE_BYTES_MAX, entry_bytes_max=_COPIES * _HEAD_BYTES_MAX)
        )

    def remember(
        self, head: bytes, sent: tuple[bytes, ...], parsed: RequestHead
    ) -> Callable[[], RepeatedHead | None]:
        """Return a reference to a head of the form of this one, with the names as they were
        `sent`. It returns None if a head of this form has to be parsed each time, or is no longer
        remembered.
        """
        if len(head) > self._head_bytes_max or b"?" in parsed.target:  # senders vary the query
            return no_head
        lines = head.split(b"\r\n")
        key = lines[0], parsed.host, sent
        found = self._heads.get(key)
        if found is None:
            if lines[1:-2] != [
                name + b": " + value for name, value in zip(sent, parsed.values, strict=True)
            ]:
                return no_head
            found = RepeatedHead(lines, sent, parsed, self._head_bytes_max)
            self._heads.remember(key, found, _COPIES * len(head))
        return weakref.ref(found)
