"""Checks of the parsed head of a request, against request smuggling.

llhttp (used by httptools) enforces the grammar: tokens, line ends, folding, one well-formed
Content-Length. Requests that it accepts, but that two servers in a chain could interpret
differently, are rejected here (RFC 9112 sections 3.2, 6.1, 6.3). They are never repaired.
"""

from collections.abc import Sequence
from typing import Final, NoReturn

from headrace.adapters.http.server_limits import ServerLimits
from headrace.codec.local_request import HOST_BYTES_MAX, split_host
from headrace.domain.bounded_cache import ByteBoundedCache

_ABSENT: Final = -1
_REPEATED: Final = -2
_REMEMBERED_BYTES_MAX: Final = 1_048_576
_SHAPE_BYTES_MAX: Final = 16_384
_NAME_BYTES: Final = 48
"""Memory overhead of one field name, in bytes."""
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
"""Characters of the name of a transfer coding, in lower case (RFC 9110, 5.6.2)."""
_VERSIONS: Final = (b" HTTP/1.1", b" HTTP/1.0")
_LINE_SPARE_BYTES: Final = 64
"""Largest size of a request line without its target."""
_DIGITS_MAX: Final = 15
"""Most digits of a Content-Length: enough for any body, too few to make `int` slow."""


class RequestRejected(Exception):
    """Raised for a request that the server rejects itself, after which it closes the connection."""

    def __init__(self, status: int, detail: str, *, limit: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.limit = limit
        """The limit that was exceeded, if any."""


Framing = tuple[int, bool, bool, bool]
"""How the body of a request is delimited.

The items are: the length of the body (0 if it is chunked), whether it is chunked, whether the
client waits for `100 Continue`, and whether the request has a header field that only browsers send.
A plain tuple, because one is created per request.
"""


class RequestHead:
    """The head of a request, checked: what its exchange has of it."""

    __slots__ = ("framing", "host", "method", "names", "target", "values")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        names: tuple[bytes, ...],
        values: tuple[bytes, ...],
        host: bytes,
        framing: Framing,
    ) -> None:
        self.method, self.target, self.host, self.framing = method, target, host, framing
        self.names, self.values = names, values


class _Shape:
    """The positions of the checked fields in a sequence of field names as sent, and the sequence's
    error if it is invalid.
    """

    __slots__ = (
        "browser",
        "expect",
        "host",
        "length",
        "names",
        "old_refusal",
        "plain",
        "refusal",
        "transfer",
    )

    def __init__(self, sent: Sequence[bytes]) -> None:
        self.names = names = tuple(name.lower() for name in sent)
        self.host = _only(names, b"host")
        self.length = _only(names, b"content-length")
        self.transfer = _only(names, b"transfer-encoding")
        self.expect = _only(names, b"expect")
        self.plain = self.transfer == self.expect == _ABSENT
        """Whether the request has neither Transfer-Encoding nor Expect."""
        self.browser = b"origin" in names or b"sec-fetch-site" in names
        self.refusal = self._fault(old=False)
        self.old_refusal = self._fault(old=True)
        """The reason to reject the field names in an HTTP/1.0 request, if any."""

    def _fault(self, *, old: bool) -> str | None:
        if self.host == _REPEATED or (self.host == _ABSENT and not old):
            return "the request needs exactly one Host field (RFC 9112, 3.2)"
        if old and self.transfer != _ABSENT:
            return (
                "an HTTP/1.0 request must not have Transfer-Encoding; send Content-Length"
                " (RFC 9112, 6.1)"
            )
        if self.length == _REPEATED:
            return "the request has more than one Content-Length; send one (RFC 9112, 6.3)"
        if self.transfer == _REPEATED:
            return "the request has more than one Transfer-Encoding; send `chunked`, once"
        if self.transfer >= 0 and self.length >= 0:
            return (
                "the request has both Content-Length and Transfer-Encoding; send one"
                " (RFC 9112, 6.1)"
            )
        return None


_shapes: ByteBoundedCache[tuple[bytes, ...], _Shape] = ByteBoundedCache(
    bytes_max=_REMEMBERED_BYTES_MAX, entry_bytes_max=_SHAPE_BYTES_MAX
)
"""Cached results of the checks on field names, because clients repeat the same names in the same
order.
"""

_hosts: ByteBoundedCache[bytes, None] = ByteBoundedCache(
    bytes_max=_REMEMBERED_BYTES_MAX // 4, entry_bytes_max=HOST_BYTES_MAX
)
"""Host fields that have been validated."""


def read_framing(
    sent: tuple[bytes, ...], values: tuple[bytes, ...], limits: ServerLimits, *, old: bool = False
) -> tuple[Framing, bytes, tuple[bytes, ...]]:
    """Check the header fields of one request, whose names are as they were `sent`; return how its
    body is delimited, its Host, and the names in lower case.

    `old` means HTTP/1.0, which may omit Host (it is empty then) and has neither Transfer-Encoding
    nor expectations. Raises `RequestRejected`.
    """
    if len(sent) > limits.header_count_max:
        raise _count_refusal(len(sent), limits)
    shape = _shapes.get(sent) or _remember(sent)
    refusal = shape.old_refusal if old else shape.refusal
    if refusal is not None:
        raise RequestRejected(400, refusal)
    host = values[shape.host] if shape.host >= 0 else b""
    if host not in _hosts and shape.host >= 0:
        _check_host(host)
    length = _length(values[shape.length]) if shape.length >= 0 else 0
    if shape.plain or old:
        return (length, False, False, shape.browser), host, shape.names
    if shape.transfer >= 0 and values[shape.transfer].lower() != b"chunked":
        raise _coding_refusal(values[shape.transfer])
    if shape.expect != _ABSENT and (
        shape.expect == _REPEATED or values[shape.expect].lower() != b"100-continue"
    ):
        raise RequestRejected(417, "the only expectation understood is 100-continue")
    return (length, shape.transfer >= 0, shape.expect >= 0, shape.browser), host, shape.names


def _remember(sent: tuple[bytes, ...]) -> _Shape:
    shape = _Shape(sent)
    _shapes.remember(sent, shape, 2 * (sum(map(len, sent)) + _NAME_BYTES * len(sent)))
    return shape


def _check_host(host: bytes) -> None:
    if len(host) > HOST_BYTES_MAX:
        raise RequestRejected(
            400, f"the Host field is longer than {HOST_BYTES_MAX} bytes", limit=HOST_BYTES_MAX
        )
    if split_host(host.decode("latin-1")) is None:
        raise RequestRejected(
            400, "the Host field must name one host, with a port or without (RFC 9112, 3.2)"
        )
    _hosts.remember(host, None, len(host))


def reject_coding(sent: Sequence[bytes], values: Sequence[bytes]) -> None:
    """Reject an unsupported transfer coding in a head that the parser has rejected, with the fields
    before the error.

    Raises `RequestRejected` (501, or 400).
    """
    names = [name.lower() for name in sent]
    if names.count(b"transfer-encoding") != 1 or b"content-length" in names:
        return
    coding = values[names.index(b"transfer-encoding")]
    if coding.lower() != b"chunked":
        raise _coding_refusal(coding)


def _coding_refusal(value: bytes) -> RequestRejected:
    """Return the rejection of a Transfer-Encoding other than `chunked`.

    The status is 501 for an unsupported coding (RFC 9112, 6.1), otherwise 400.
    """
    codings = [coding.partition(b";")[0].strip(b" \t") for coding in value.lower().split(b",")]
    well_formed = all(coding and _TOKEN.issuperset(coding) for coding in codings)
    if well_formed and b"chunked" not in codings[:-1] and codings != [b"chunked"]:
        return RequestRejected(501, "the only transfer coding known here is `chunked`")
    return RequestRejected(400, "Transfer-Encoding must be `chunked` and nothing else")


def _only(names: Sequence[bytes], name: bytes) -> int:
    match names.count(name):
        case 0:
            return _ABSENT
        case 1:
            return names.index(name)
        case _:
            return _REPEATED


def _count_refusal(count: int, limits: ServerLimits) -> RequestRejected:
    limit = limits.header_count_max
    return RequestRejected(
        431, f"the request has {count} header fields, at most {limit} are taken", limit=limit
    )


def is_length(value: bytes) -> bool:
    """Return whether this is a Content-Length that is accepted."""
    return value.isdigit() and len(value) <= _DIGITS_MAX


def _length(value: bytes) -> int:
    if not is_length(value):
        raise RequestRejected(400, "Content-Length must be one decimal number (RFC 9112, 6.3)")
    return int(value)


def check_request_line(head: bytes) -> None:
    """Reject HTTP versions other than 1.0 and 1.1. Raises `RequestRejected` (505).

    The parser also accepts 0.9 and 2.0, which use different framing.
    """
    # From 2: an empty line before the request line is skipped (RFC 9112, 2.2).
    end = head.find(b"\r\n", 2)
    if not head.endswith(_VERSIONS, 0, end):
        raise RequestRejected(505, "the request line must end in HTTP/1.1")


def reject_unfinished(head: bytes | bytearray, limits: ServerLimits) -> None:
    """Reject an incomplete head that cannot become valid. Raises `RequestRejected`.

    Without this check, a client that sends bare line feeds, or a protocol other than HTTP, would
    receive no response until the head deadline.
    """
    if not (_begins_with_capital(head) or head[0] == 13):
        raise RequestRejected(400, "the request does not begin with a method")
    line_end = head.find(b"\n")
    if line_end >= 0 and head[line_end - 1] != 13:
        raise RequestRejected(400, "a line ends in LF without CR")
    if len(head) > limits.head_bytes_max or (
        line_end < 0 and len(head) > limits.target_bytes_max + _LINE_SPARE_BYTES
    ):
        reject_long_head(head, limits)


def reject_long_head(head: bytes | bytearray, limits: ServerLimits) -> NoReturn:
    """Reject a head that exceeds its limit, and report which part is too long.

    Raises `RequestRejected`.
    """
    line_end = head.find(b"\n")
    if line_end < 0 or line_end > limits.target_bytes_max + _LINE_SPARE_BYTES:
        reject_long_target(limits)
    raise RequestRejected(
        431,
        f"the header fields are longer than {limits.head_bytes_max} bytes",
        limit=limits.head_bytes_max,
    )


def reject_long_target(limits: ServerLimits) -> NoReturn:
    """Reject a request target that exceeds its limit. Raises `RequestRejected`."""
    raise RequestRejected(
        414,
        f"the request target is longer than {limits.target_bytes_max} bytes",
        limit=limits.target_bytes_max,
    )


def reject_method(head: bytes) -> NoReturn:
    """Reject a request whose method the parser does not recognize. Raises `RequestRejected`."""
    if _begins_with_capital(head):
        raise RequestRejected(501, "the request method is not one of HTTP's")
    raise RequestRejected(400, "the request does not begin with a method")


def _begins_with_capital(head: bytes | bytearray) -> bool:
    return b"A" <= head[:1] <= b"Z"
