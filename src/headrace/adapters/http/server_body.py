"""Readers of request bodies: with a Content-Length, or chunked (RFC 9112, section 7.1).

The chunked decoder is implemented here because the end of a request must be known exactly: the
following bytes belong to the next request, and the parser library does not report where it stopped.
"""

from enum import IntEnum
from typing import Final

from headrace.adapters.http.server_head import RequestRejected

_SIZE_DIGITS_MAX: Final = 8
_LINE_BYTES_MAX: Final = 1_024
"""Largest chunk size line, including extensions."""
_TRAILER_BYTES_MAX: Final = 8_192
_FRAMING_SPARE_BYTES: Final = 65_536
"""Framing bytes allowed in addition to as many bytes as the data has.

This rejects bodies that consist of one-byte chunks or mostly of extensions.
"""
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


def too_large(bytes_max: int) -> RequestRejected:
    """Return the rejection of a body that exceeds `bytes_max`."""
    return RequestRejected(
        413, f"the request body is larger than {bytes_max} bytes, the limit here", limit=bytes_max
    )


class LengthBody:
    """A body of `length` bytes, received in parts."""

    __slots__ = ("_data", "length", "received")

    def __init__(self, length: int) -> None:
        self.length = length
        self.received = 0
        # Not a list of parts: one-byte parts would use forty times the memory that is counted.
        self._data = bytearray()

    def feed(self, data: bytes, start: int) -> int:
        """Consume the body's part of `data` from `start`; return the index after it."""
        end = min(len(data), start + self.length - self.received)
        self._data += data[start:end]
        self.received += end - start
        return end

    @property
    def complete(self) -> bool:
        """Whether the last byte has been received."""
        return self.received == self.length

    def value(self) -> bytes:
        """Return the body."""
        return bytes(self._data)


class _Part(IntEnum):
    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILER = 3
    DONE = 4


class ChunkedBody:
    """A chunked body, decoded strictly.

    Sizes must be hexadecimal without sign or space, and all lines must end in CRLF. Extensions and
    trailers are discarded.
    """

    __slots__ = (
        "_data",
        "_framing",
        "_left",
        "_line",
        "_part",
        "_trailer",
        "bytes_max",
        "received",
    )

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.received = 0
        self._data = bytearray()
        self._line = bytearray()
        self._part = _Part.SIZE
        self._left = 0
        self._framing = 0
        self._trailer = 0

    @property
    def complete(self) -> bool:
        """Whether the last chunk and the trailers have been received."""
        return self._part is _Part.DONE

    def value(self) -> bytes:
        """Return the body without the chunk framing."""
        return bytes(self._data)

    def feed(self, data: bytes, start: int) -> int:
        """Consume the body's part of `data` from `start`; return the index after it.

        Raises `RequestRejected`.
        """
        at, end = start, len(data)
        while at < end and self._part is not _Part.DONE:
            at = (
                self._feed_data(data, at) if self._part is _Part.DATA else self._feed_line(data, at)
            )
        self.received += at - start
        return at

    def _feed_data(self, data: bytes, at: int) -> int:
        end = min(len(data), at + self._left)
        self._data += data[at:end]
        self._left -= end - at
        if not self._left:
            self._part = _Part.DATA_END
        return end

    def _feed_line(self, data: bytes, at: int) -> int:
        found = data.find(b"\n", at)
        end = len(data) if found < 0 else found + 1
        self._line += data[at:end]
        self._framing += end - at
        if len(self._line) > _LINE_BYTES_MAX or self._framing > _FRAMING_SPARE_BYTES + len(
            self._data
        ):
            raise RequestRejected(400, "the chunk framing is larger than any honest body needs")
        if found < 0:
            return end
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise RequestRejected(400, "a chunk line does not end in CRLF")
        self._line_read(line[:-2])
        return end

    def _line_read(self, line: bytes) -> None:
        if self._part is _Part.SIZE:
            self._begin_chunk(line)
        elif self._part is _Part.DATA_END:
            if line:
                raise RequestRejected(400, "a chunk is longer than its size says")
            self._part = _Part.SIZE
        elif not line:
            self._part = _Part.DONE
        else:
            self._trailer += len(line)
            if self._trailer > _TRAILER_BYTES_MAX:
                raise RequestRejected(
                    431,
                    f"the trailers are longer than {_TRAILER_BYTES_MAX} bytes",
                    limit=_TRAILER_BYTES_MAX,
                )

    def _begin_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0]
        if not 0 < len(digits) <= _SIZE_DIGITS_MAX or not _HEX.issuperset(digits):
            raise RequestRejected(
                400, "a chunk size is not a hexadecimal number of at most 8 digits"
            )
        self._left = int(digits, 16)
        if len(self._data) + self._left > self.bytes_max:
            raise too_large(self.bytes_max)
        self._part = _Part.DATA if self._left else _Part.TRAILER
