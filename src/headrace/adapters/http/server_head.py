"""The head of a request: what the parser found, checked for everything that parsers read in different ways.

llhttp (under httptools) decides the grammar: tokens, line ends, folding, one well-formed Content-Length. What it lets through and two
servers in a row could understand differently is refused here (RFC 9112 sections 3.2, 6.1, 6.3): reject, never repair.
"""

from collections.abc import Sequence
from typing import Final, NoReturn

from headrace.adapters.http.server_limits import Limits

_ABSENT: Final = -1
_REPEATED: Final = -2
_HOST_BYTES_MAX: Final = 255
_SHAPES_MAX: Final = 512
_SHAPE_BYTES_MAX: Final = 2_048
_VERSIONS: Final = (b" HTTP/1.1", b" HTTP/1.0")
_LINE_SPARE_BYTES: Final = 64
"""What a request line has beside its target, at most."""
_DIGITS_MAX: Final = 15
"""Digits of a Content-Length; more than any body could have, less than what makes `int` slow."""


class Refusal(Exception):
    """A request that is answered by the server itself and ends its connection."""

    def __init__(self, status: int, detail: str, *, limit: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.limit = limit
        """The limit that was passed, where it is one."""


Framing = tuple[int, bool, bool]
"""How the body of a request is delimited: its length (0 when it comes in chunks), whether it comes in chunks, and whether the sender waits
for `100 Continue`. A plain tuple, because one is made per request."""


class _Shape:
    """Where the fields that matter here stand in a sequence of field names, and what is wrong with the sequence as such."""

    __slots__ = ("expect", "host", "length", "plain", "refusal", "transfer")

    def __init__(self, names: Sequence[bytes]) -> None:
        self.host = _only(names, b"host")
        self.length = _only(names, b"content-length")
        self.transfer = _only(names, b"transfer-encoding")
        self.expect = _only(names, b"expect")
        self.plain = self.transfer == self.expect == _ABSENT
        """Whether there is nothing about the body but its length."""
        self.refusal = self._fault()

    def _fault(self) -> str | None:
        if self.host < 0:
            return "the request needs exactly one Host field (RFC 9112, 3.2)"
        if self.length == _REPEATED:
            return "the request has more than one Content-Length; send one (RFC 9112, 6.3)"
        if self.transfer == _REPEATED:
            return "the request has more than one Transfer-Encoding; send `chunked`, once"
        if self.transfer >= 0 and self.length >= 0:
            return "the request has both Content-Length and Transfer-Encoding; send one (RFC 9112, 6.1)"
        return None


_shapes: dict[tuple[bytes, ...], _Shape] = {}
"""Clients send the same field names in the same order again and again; what follows from the names alone is worked out once."""

_hosts: set[bytes] = set()
"""Host fields seen to be well-formed."""


def read_framing(headers: Sequence[tuple[bytes, bytes]], limits: Limits) -> tuple[Framing, bytes]:
    """Check the header fields of one request; say how its body is delimited and what its Host is. Raises `Refusal`."""
    if not headers or len(headers) > limits.header_count_max:
        raise _count_refusal(len(headers), limits)
    names = tuple([name for name, _ in headers])
    shape = _shapes.get(names) or _remember(names)
    if shape.refusal is not None:
        raise Refusal(400, shape.refusal)
    host = headers[shape.host][1]
    if host not in _hosts:
        _check_host(host)
    length = _length(headers[shape.length][1]) if shape.length >= 0 else 0
    if shape.plain:
        return (length, False, False), host
    if shape.transfer >= 0 and headers[shape.transfer][1].lower() != b"chunked":
        raise Refusal(400, "Transfer-Encoding must be `chunked` and nothing else")
    if shape.expect != _ABSENT and (shape.expect == _REPEATED or headers[shape.expect][1].lower() != b"100-continue"):
        raise Refusal(417, "the only expectation understood is 100-continue")
    return (length, shape.transfer >= 0, shape.expect >= 0), host


def _remember(names: tuple[bytes, ...]) -> _Shape:
    shape = _Shape(names)
    if sum(map(len, names)) <= _SHAPE_BYTES_MAX:
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()  # a sender of ever new names can make this slower, not larger
        _shapes[names] = shape
    return shape


def _check_host(host: bytes) -> None:
    if not host or b"," in host or b" " in host:
        raise Refusal(400, "the Host field must name one host (RFC 9112, 3.2)")
    if len(_hosts) >= _SHAPES_MAX:
        _hosts.clear()
    _hosts.add(host[:_HOST_BYTES_MAX])


def _only(names: Sequence[bytes], name: bytes) -> int:
    match names.count(name):
        case 0:
            return _ABSENT
        case 1:
            return names.index(name)
        case _:
            return _REPEATED


def _count_refusal(count: int, limits: Limits) -> Refusal:
    if not count:
        return Refusal(400, "the request needs exactly one Host field (RFC 9112, 3.2)")
    limit = limits.header_count_max
    return Refusal(431, f"the request has {count} header fields, at most {limit} are taken", limit=limit)


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _DIGITS_MAX:
        raise Refusal(400, "Content-Length must be one decimal number (RFC 9112, 6.3)")
    return int(value)


def check_request_line(head: bytes) -> None:
    """Refuse versions other than 1.0 and 1.1: the parser also takes 0.9 and 2.0, whose framing is another one."""
    end = head.find(b"\r\n", 2)  # from 2: an empty line before the request line is skipped (RFC 9112, 2.2)
    if not head.endswith(_VERSIONS, 0, end):
        raise Refusal(505, "the request line must end in HTTP/1.1")


def refuse_unfinished(head: bytes | bytearray, limits: Limits) -> None:
    """Refuse a head that is not complete yet and never can be right. Raises `Refusal`.

    Without this a sender of bare line feeds, or of something other than HTTP, would wait for the head deadline instead of an answer.
    """
    if not (_begins_with_capital(head) or head[0] == 13):
        raise Refusal(400, "the request does not begin with a method")
    line_end = head.find(b"\n")
    if line_end >= 0 and head[line_end - 1] != 13:
        raise Refusal(400, "a line ends in LF without CR")
    if len(head) > limits.head_bytes_max or (line_end < 0 and len(head) > limits.target_bytes_max + _LINE_SPARE_BYTES):
        refuse_long_head(head, limits)


def refuse_long_head(head: bytes | bytearray, limits: Limits) -> NoReturn:
    """Refuse a head over its limit, saying which part of it is too long. Raises `Refusal`."""
    line_end = head.find(b"\n")
    if line_end < 0 or line_end > limits.target_bytes_max + _LINE_SPARE_BYTES:
        refuse_long_target(limits)
    raise Refusal(431, f"the header fields are longer than {limits.head_bytes_max} bytes", limit=limits.head_bytes_max)


def refuse_long_target(limits: Limits) -> NoReturn:
    """Refuse a request target over its limit. Raises `Refusal`."""
    raise Refusal(414, f"the request target is longer than {limits.target_bytes_max} bytes", limit=limits.target_bytes_max)


def refuse_method(head: bytes) -> NoReturn:
    """Refuse a request whose method the parser does not know. Raises `Refusal`."""
    if _begins_with_capital(head):
        raise Refusal(501, "the request method is not one of HTTP's")
    raise Refusal(400, "the request does not begin with a method")


def _begins_with_capital(head: bytes | bytearray) -> bool:
    return b"A" <= head[:1] <= b"Z"
