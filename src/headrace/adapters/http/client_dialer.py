"""Opens connections: name lookup, address policy, TCP and TLS. This is the only part of posting an
event that runs as a task, one per connection opened.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import TypeVar

from headrace.adapters.authorities import accept_plain_authorities
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.http.client_resolver import ResolutionFailed, Resolver
from headrace.domain.delivery import Failure, Outcome
from headrace.domain.target_url import TargetUrl

P = TypeVar("P", bound=asyncio.Protocol)

_DETAIL_MAX = 200
_ADDRESS_SECONDS_MIN = 0.5


class DialFailed(Exception):
    """No connection could be opened. `outcome` is the outcome of the request that waited for it."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.outcome = Outcome(failure=failure, detail=detail[:_DETAIL_MAX])


@functools.lru_cache(maxsize=256)
def tls_context(ca_certs: str | None) -> ssl.SSLContext:
    """Return the TLS settings of a target. They are cached per set of CA certificates, because
    loading the system's CA certificates takes about 10 ms.

    Server certificates are always verified against the system's CA certificates and `ca_certs`.
    Each CA certificate is a trust anchor, self-signed or not (RFC 5280, 6.1.1 d), as with curl and
    Go. Raises ValueError if `ca_certs` is not PEM.
    """
    context = accept_plain_authorities(ssl.create_default_context())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_certs is not None:
        try:
            context.load_verify_locations(cadata=ca_certs)
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"the CA certificates are not PEM certificates: {error}") from None
    return context


_generation = 0
"""How often the CA certificates of the system were renewed."""


def forget_contexts() -> None:
    """Read the CA certificates of the system again, for connections that are opened from now on."""
    global _generation  # noqa: PLW0603  # as global as the system's CA certificates and the cache
    _generation += 1
    tls_context.cache_clear()


class TargetTls:
    """The TLS settings of one target. Raises ValueError if `ca_certs` is not PEM."""

    __slots__ = ("_ca_certs", "_context", "_generation")

    def __init__(self, ca_certs: str | None) -> None:
        self._ca_certs = ca_certs
        self._generation = _generation
        self._context = tls_context(ca_certs)

    def context(self) -> ssl.SSLContext:
        """Return them, with the CA certificates that the system has now."""
        if self._generation != _generation:
            self._generation = _generation
            self._context = tls_context(self._ca_certs)
        return self._context


class Dialer:
    """Opens connections to one host and port."""

    def __init__(
        self,
        url: TargetUrl,
        addresses: Resolver,
        options: ClientOptions,
        *,
        tls: TargetTls | None,
    ) -> None:
        self._url = url
        self._addresses = addresses
        self._options = options
        self._tls = tls
        self.denied = ""
        """The reason why the last check of the address policy denied the target, or an empty string
        if it was allowed.
        """

    async def check_policy(self) -> None:
        """Update `denied` from the address policy without connecting. A failed name lookup leaves
        it unchanged.
        """
        with suppress(ResolutionFailed):
            self._allowed(await self._addresses.of(self._url.host, self._options.connect_seconds))

    def _allowed(self, found: Sequence[str]) -> list[str]:
        policy, port = self._options.address_denied, self._url.port
        denied = {
            address: reason for address in found if (reason := policy(ip_address(address), port))
        }
        allowed = [address for address in found if address not in denied]
        self.denied = (
            ""
            if allowed
            else f"the egress policy denies {self._url.authority}: {next(iter(denied.values()))}"
        )
        return allowed

    async def dial(self, make: Callable[[], P]) -> P:
        """Return a connection created by `make`. Tries the addresses one after another.

        Raises `DialFailed` if no address is allowed or none accepts a connection in time.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._options.connect_seconds
        try:
            found = await self._addresses.of(self._url.host, self._options.connect_seconds)
        except ResolutionFailed as error:
            raise DialFailed(Failure.CONNECT, str(error)) from None
        allowed = self._allowed(found)
        if not allowed:
            raise DialFailed(Failure.REFUSED, self.denied)
        detail = ""
        for tried, address in enumerate(allowed):
            left = ends_at - loop.time()
            share = max(_ADDRESS_SECONDS_MIN, left / (len(allowed) - tried))
            try:
                async with asyncio.timeout(min(share, max(left, 0.0))):
                    return await self._open(make, address)
            except TimeoutError:
                detail = f"{address} port {self._url.port}: no connection within {share:.1f} s"
            except ssl.SSLError as error:
                detail = (
                    f"{address} port {self._url.port}: TLS:"
                    f" {getattr(error, 'verify_message', '') or error.reason or error}"
                )
            except OSError as error:
                detail = f"{address} port {self._url.port}: {error.strerror or error}"
        self._addresses.forget(self._url.host)
        raise DialFailed(Failure.CONNECT, detail)

    async def _open(self, make: Callable[[], P], address: str) -> P:
        loop = asyncio.get_running_loop()
        # A trailing dot only matters to the name lookup. The TLS server name (RFC 6066, 3) and the
        # names in a certificate have none.
        name = self._url.host.rstrip(".") if self._tls else None
        context = self._tls.context() if self._tls else None
        _, connection = await loop.create_connection(
            make, address, self._url.port, ssl=context, server_hostname=name
        )
        return connection
