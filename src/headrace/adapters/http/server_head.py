"""The head of a request: what the parser found, checked for everything that parsers read in different ways.

llhttp (under httptools) decides the grammar: tokens, line ends, folding, one well-formed Content-Length. What it lets through and two
servers in a row could understand differently is refused here (RFC 9112 sections 3.2, 6.1, 6.3): reject, never repair.
"""

from typing import Final, NamedTuple

from headrace.adapters.http.server_limits import Limits

_WATCHED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_VERSIONS: Final = (b" HTTP/1.1", b" HTTP/1.0")
_DIGITS_MAX: Final = 15
"""Digits of a Content-Length; more than any body could have, less than what makes `int` slow."""


class Refusal(Exception):
    """A request that is answered by the server itself and ends its connection."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Framing(NamedTuple):
    """Whom a request was sent to, and how its body is delimited; `length` is 0 for a chunked one."""

    host: bytes
    length: int
    chunked: bool
    expects_continue: bool


def read_framing(headers: list[tuple[bytes, bytes]], limits: Limits) -> Framing:
    """Check the headers of one request and say how its body is delimited. Raises `Refusal`."""
    if len(headers) > limits.header_count_max:
        raise Refusal(431, f"the request has {len(headers)} header fields, at most {limits.header_count_max} are taken")
    host: bytes | None = None
    length = -1
    chunked = expects_continue = False
    for name, value in headers:
        if name not in _WATCHED:
            continue
        if name == b"host":
            if host is not None:
                raise Refusal(400, "the request has two Host fields; send one (RFC 9112, 3.2)")
            host = value
        elif name == b"content-length":
            length = _length(value, length)
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise Refusal(417, "the only expectation understood is 100-continue")
            expects_continue = True
        else:
            if chunked or value.lower() != b"chunked":
                raise Refusal(400, "Transfer-Encoding must be chunked, once, and nothing else")
            chunked = True
    if not host or b"," in host or b" " in host:
        raise Refusal(400, "the request needs one Host field with one host (RFC 9112, 3.2)")
    if chunked and length >= 0:
        raise Refusal(400, "the request has both Content-Length and Transfer-Encoding; send one (RFC 9112, 6.1)")
    return Framing(host, max(length, 0), chunked, expects_continue)


def _length(value: bytes, seen: int) -> int:
    if seen >= 0 or not value.isdigit() or len(value) > _DIGITS_MAX:
        raise Refusal(400, "Content-Length must be one decimal number, once (RFC 9112, 6.3)")
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
    if not (65 <= head[0] <= 90 or head[0] == 13):
        raise Refusal(400, "the request does not begin with a method")
    line_end = head.find(b"\n")
    if line_end >= 0 and head[line_end - 1] != 13:
        raise Refusal(400, "a line ends in LF without CR")
    if line_end < 0 and len(head) > limits.target_bytes_max + 64:
        raise Refusal(414, f"the request target is longer than {limits.target_bytes_max} bytes")
    if len(head) > limits.head_bytes_max:
        raise Refusal(431, f"the header fields are longer than {limits.head_bytes_max} bytes")
