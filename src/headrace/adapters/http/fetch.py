"""Reads one document over HTTP, for the control plane: one GET on a connection of its own, under
the address policy of the dispatcher's requests.

Bounded in time and size. Redirects are never followed, and proxies set in the environment are never
used.
"""

import asyncio
import ssl
from typing import Final

import httptools

from headrace.adapters.http.client_dialer import Dialer, DialFailed, tls_context
from headrace.adapters.http.client_options import AddressPolicy, ClientOptions
from headrace.adapters.http.client_resolver import Lookup, Resolver, resolve
from headrace.domain.errors import Permanent, Temporary
from headrace.domain.target_url import TargetUrl, parse_target_url

_HEAD_BYTES_MAX: Final = 65_536
_REASON_MAX: Final = 200


class HttpFetcher:
    """Reads documents, a few at a time."""

    def __init__(
        self,
        *,
        address_denied: AddressPolicy,
        seconds: float = 10.0,
        bytes_max: int,
        lookup: Lookup = resolve,
    ) -> None:
        """`seconds` is the total time for one document, `bytes_max` its size; `lookup` replaces the
        system resolver.
        """
        self._options = ClientOptions(address_denied=address_denied, connect_seconds=seconds)
        self._seconds = seconds
        self._bytes_max = bytes_max
        self._lookup = lookup
        self._addresses: Resolver | None = None

    async def fetch(self, url: str) -> bytes:
        """Return the document at an http or https URL.

        Raises Permanent for a URL that cannot be used, and Temporary if the document could not be
        read, with the reason.
        """
        try:
            parsed = parse_target_url(url)
        except ValueError as error:
            raise Permanent(f"{url[:_REASON_MAX]}: {error}") from None
        try:
            async with asyncio.timeout(self._seconds):
                return await self._get(parsed)
        except TimeoutError:
            raise Temporary(f"no complete answer within {self._seconds:g} s") from None
        except DialFailed as error:
            raise Temporary(str(error)[:_REASON_MAX]) from None

    async def _get(self, url: TargetUrl) -> bytes:
        loop = asyncio.get_running_loop()
        if self._addresses is None:
            seconds = self._options.addresses_seconds
            self._addresses = Resolver(loop, fresh_seconds=seconds, lookup=self._lookup)
        tls: ssl.SSLContext | None = tls_context(None) if url.scheme == "https" else None
        dialer = Dialer(url, self._addresses, self._options, tls=tls)
        answer: asyncio.Future[bytes] = loop.create_future()
        try:
            connection = await dialer.dial(lambda: _Get(url, answer, self._bytes_max))
            try:
                return await answer
            finally:
                connection.close()
        finally:
            if answer.done() and not answer.cancelled():
                answer.exception()  # It may have failed while another address was tried.


class _Get(asyncio.Protocol):
    """One request on one connection; the answer, or why there is none, goes to a future."""

    def __init__(self, url: TargetUrl, answer: "asyncio.Future[bytes]", bytes_max: int) -> None:
        self._url = url
        self._answer = answer
        self._bytes_max = bytes_max
        self._transport: asyncio.BaseTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._head_bytes = 0
        self._in_head = True
        self._is_framed = False
        """Whether the body has a length, or is in chunks."""

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = transport
        transport.write(  # type: ignore[attr-defined] # a transport of a stream
            f"GET {self._url.path} HTTP/1.1\r\nhost: {self._url.authority}\r\n"
            "accept: application/schema+json, application/json;q=0.9, */*;q=0.1\r\n"
            "accept-encoding: identity\r\nuser-agent: headrace\r\nconnection: close\r\n\r\n".encode(
                "latin-1"
            )
        )

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
                self._answer.set_result(bytes(self._body))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    # Called by the parser.

    def on_headers_complete(self) -> None:
        """Only a complete document with status 200 is one."""
        self._in_head = False
        status = self._parser.get_status_code()
        if 300 <= status < 400:
            self._fail(f"status {status}; redirects are not followed")
        elif status != 200:
            self._fail(f"status {status}")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A coding would need another limit."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_framed = True
        if name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            self._fail(f"content-encoding {value[:40]!r}; only documents without one are read")

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._body += data
        if len(self._body) > self._bytes_max:
            self._fail(f"more than {self._bytes_max} bytes")

    def on_message_complete(self) -> None:
        """Deliver the document."""
        if not self._answer.done():
            self._answer.set_result(bytes(self._body))

    def _fail(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(Temporary(reason[:_REASON_MAX]))
        self.close()
