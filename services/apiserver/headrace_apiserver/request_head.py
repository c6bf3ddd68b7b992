"""Checks of the head of a request before the application sees it (RFC 9112, sections 2.3, 3.2 and
6.1).

llhttp checks the grammar: tokens, line ends, a single Content-Length, and not both Content-Length
and Transfer-Encoding. Rejected here is what it accepts but a proxy and this server could interpret
differently (request smuggling).
"""

from collections.abc import Sequence

from headrace.codec.local_request import HOST_BYTES_MAX, split_host
from headrace_apiserver.statuses import StatusError, bad_request, failure

_VERSIONS = ("1.1", "1.0")


def head_error(version: str, headers: Sequence[tuple[bytes, bytes]]) -> StatusError | None:
    """The response to a request of this HTTP version with these headers (names in lower case) if it
    must be rejected, else None.
    """
    if version not in _VERSIONS:
        return failure(505, "BadRequest", "the request line must end in HTTP/1.1")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        return bad_request("the request has more than one Host header; send one (RFC 9112, 3.2)")
    if not hosts and version != "1.0":
        return bad_request("the request has no Host header (RFC 9112, 3.2)")
    if hosts and split_host(hosts[0].decode("latin-1").strip()) is None:
        return bad_request(
            f"the Host header must name one host, in at most {HOST_BYTES_MAX} bytes (RFC 9112, 3.2)"
        )
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    return _transfer_coding_error(version, codings) if codings else None


def _transfer_coding_error(version: str, codings: Sequence[bytes]) -> StatusError | None:
    if version == "1.0":
        return bad_request(
            "Transfer-Encoding is not part of HTTP/1.0; send Content-Length (RFC 9112, 6.1)"
        )
    if list(codings) == [b"chunked"]:
        return None
    if codings[-1].rpartition(b",")[2].strip() != b"chunked":
        return bad_request("the last transfer coding must be `chunked`, once (RFC 9112, 6.3)")
    return failure(
        501,
        "NotImplemented",
        "the only supported transfer coding is `chunked` (RFC 9112, 6.1)",
    )
