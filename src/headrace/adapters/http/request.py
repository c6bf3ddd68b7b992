"""Sends one request on a connection of its own and returns the complete answer: for the REST API of
an outside system, and for documents. Events are posted by `client.py`.

The address policy of the dispatcher's requests applies. Bounded in time and size. Redirects are
never followed, and proxies set in the environment are never used.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httptools

from headrace.adapters.http.client_dialer import Dialer, DialFailed, TargetTls
from headrace.adapters.http.client_options import AddressPolicy, ClientOptions
from headrace.adapters.http.client_resolver import Lookup, Resolver, resolve
from headrace.domain.errors import Permanent, Temporary
from headrace.domain.target_url import TargetUrl, parse_target_url

_HEAD_BYTES_MAX: Final = 65_536
_REASON_MAX: Final = 200
_FIELDS: Final = {"accept-encoding": "identity", "user-agent": "headrace", "connection": "close"}

CheckStatus = Callable[[int], str]
"""Why an answer with this status is not read, or an empty string if it is."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated field, the last value."""
    body: bytes


class HttpRequester:
    """Sends requests, a few at a time."""

    def __init__(
        self,
        *,
        address_denied: AddressPolicy,
        seconds: float = 10.0,
        bytes_max: int,
        lookup: Lookup = resolve,
    ) -> None:
        """`seconds` is the total time for one answer, `bytes_max` its size; `lookup` replaces the
        system resolver.
        """
        self._options = ClientOptions(address_denied=address_denied, connect_seconds=seconds)
        self._seconds = seconds
        self._bytes_max = bytes_max
        self._lookup = lookup
        self._addresses: Resolver | None = None

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        check_status: CheckStatus = lambda _: "",
    ) -> HttpAnswer:
        """Send a request to an http or https URL and return the answer, whatever its status.

        Raises Permanent for a URL or a header value that cannot be sent, and Temporary if there is
        no complete answer, with the reason.
        """
        try:
            parsed = parse_target_url(url)
            head = _head(method, parsed, headers or {}, body)
        except ValueError as error:
            raise Permanent(f"{url[:_REASON_MAX]}: {error}") from None
        try:
            async with asyncio.timeout(self._seconds):
                return await self._send(parsed, head + (body or b""), check_status)
        except TimeoutError:
            raise Temporary(f"no complete answer within {self._seconds:g} s") from None
        except DialFailed as error:
            raise Temporary(str(error)[:_REASON_MAX]) from None

    async def _send(self, url: TargetUrl, request: bytes, check_status: CheckStatus) -> HttpAnswer:
        loop = asyncio.get_running_loop()
        if self._addresses is None:
            seconds = self._options.addresses_seconds
            self._addresses = Resolver(loop, fresh_seconds=seconds, lookup=self._lookup)
        tls = TargetTls(None) if url.scheme == "https" else None
        dialer = Dialer(url, self._addresses, self._options, tls=tls)
        answer: asyncio.Future[HttpAnswer] = loop.create_future()
        try:
            connection = await dialer.dial(
                lambda: _Exchange(request, answer, self._bytes_max, check_status)
            )
            try:
                return await answer
            finally:
                connection.close()
        finally:
            if answer.done() and not answer.cancelled():
                answer.exception()  # It may have failed while another address was tried.


def _head(method: str, url: TargetUrl, headers: Mapping[str, str], body: bytes | None) -> bytes:
    fields = {**_FIELDS, **headers}
    if body is not None or method in ("POST", "PUT", "PATCH"):
        fields["content-length"] = str(len(body or b""))
    lines = [f"{method} {url.path} HTTP/1.1", f"host: {url.authority}"]
    for name, value in fields.items():
        if not value.isascii() or not value.isprintable():
            # The value may be a secret, so it is not in the message.
            raise ValueError(f"header {name} has a character that cannot be sent")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


class _Exchange(asyncio.Protocol):
    """One request on one connection; the answer, or why there is none, goes to a future."""

    def __init__(
        self,
        request: bytes,
        answer: "asyncio.Future[HttpAnswer]",
        bytes_max: int,
        check_status: CheckStatus,
    ) -> None:
        self._request = request
        self._answer = answer
        self._bytes_max = bytes_max
        self._check_status = check_status
        self._transport: asyncio.BaseTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._head_bytes = 0
        self._in_head = True
        self._is_framed = False
        """Whether the body has a length, or is in chunks."""

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = transport
        transport.write(self._request)  # type: ignore[attr-defined] # a transport of a stream

    def data_received(self, data: bytes) -> None:
        """Read a part of the response."""
        if self._answer.done():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX + self._bytes_max:
                self._fail("the head of the answer is too large")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """A body without a length ends with the connection."""
        if not self._answer.done():
            if self._in_head or self._is_framed or error is not None:
                self._fail("the connection was closed before the answer was complete")
            else:
                self._complete()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    # Called by the parser.

    def on_headers_complete(self) -> None:
        """Look at the status."""
        self._in_head = False
        if reason := self._check_status(self._parser.get_status_code()):
            self._fail(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A coding would need another limit."""
        field = name.decode("latin-1").lower()
        self._headers[field] = value.decode("latin-1")
        if field in ("content-length", "transfer-encoding"):
            self._is_framed = True
        if field == "content-encoding" and value.strip().lower() not in (b"", b"identity"):
            self._fail(f"content-encoding {value[:40]!r}; only documents without one are read")

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._body += data
        if len(self._body) > self._bytes_max:
            self._fail(f"more than {self._bytes_max} bytes")

    def on_message_complete(self) -> None:
        """Deliver the answer."""
        self._complete()

    def _complete(self) -> None:
        if not self._answer.done():
            status = self._parser.get_status_code()
            self._answer.set_result(HttpAnswer(status, self._headers, bytes(self._body)))

    def _fail(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(Temporary(reason[:_REASON_MAX]))
        self.close()
