"""Name lookup for the HTTP sender, with a cache, a limit on concurrent lookups, and no blocking
between targets.

The resolver of the event loop uses a small thread pool (four threads on uvloop). A few lookups that
hang fill the pool, after which no name can be resolved, and its threads delay the exit of the
process. Here each name has at most one running lookup, in its own daemon thread.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from headrace.domain.target_url import is_address

Lookup = Callable[[str], Sequence[str]]
"""Resolves a host name to IP addresses in text form. Blocks. Raises OSError."""

_LOOKUPS_MAX = 32
_NAMES_MAX = 1_024
_ADDRESSES_MAX = 16
_STALE_FACTOR = 30


class ResolutionFailed(Exception):
    """The name could not be resolved and no usable result is cached. The message says why."""


def resolve(host: str) -> Sequence[str]:
    """Resolve a host name with the system resolver. `localhost` and all names below it are resolved
    as `localhost` (RFC 6761, 6.3), which not every resolver does.
    """
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        host = "localhost"
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]


def is_local(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address belongs to this machine. Only a local address can be bound."""
    with socket.socket(
        socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
    ) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


@dataclass(slots=True)
class _CacheEntry:
    addresses: tuple[str, ...]
    asked_at: float
    turn: int = 0


class Resolver:
    """Resolves host names and rotates the order of their addresses."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, fresh_seconds: float, lookup: Lookup = resolve
    ) -> None:
        self._loop = loop
        self._fresh_seconds = fresh_seconds
        self._lookup = lookup
        self._known: dict[str, _CacheEntry] = {}
        self._running: dict[str, asyncio.Future[Sequence[str] | OSError]] = {}

    async def of(self, host: str, timeout_seconds: float) -> tuple[str, ...]:
        """Return the addresses of `host`, starting with the next address on each call. Raises
        `ResolutionFailed`.
        """
        if is_address(host):
            return (host,)
        known = self._known.get(host)
        if known is None or self._loop.time() - known.asked_at > self._fresh_seconds:
            known = await self._ask(host, known, timeout_seconds)
        known.turn += 1
        start = known.turn % len(known.addresses)
        return known.addresses[start:] + known.addresses[:start]

    def forget(self, host: str) -> None:
        """Look the name up again on the next call, because no address accepted a connection. The
        cached result is kept in case that lookup fails.
        """
        if (known := self._known.get(host)) is not None:
            known.asked_at = min(known.asked_at, self._loop.time() - self._fresh_seconds)

    async def _ask(
        self, host: str, known: _CacheEntry | None, timeout_seconds: float
    ) -> _CacheEntry:
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await asyncio.shield(self._running.get(host) or self._start(host))
        except TimeoutError:
            answer = OSError(f"no answer within {timeout_seconds:g} s")
        if not isinstance(answer, OSError) and answer:
            addresses = tuple(dict.fromkeys(answer))[:_ADDRESSES_MAX]
            return self._remember(
                host, _CacheEntry(addresses, self._loop.time(), known.turn if known else 0)
            )
        if (
            known is not None
            and self._loop.time() - known.asked_at <= _STALE_FACTOR * self._fresh_seconds
        ):
            return known
        reason = (answer.strerror or str(answer)) if isinstance(answer, OSError) else "no address"
        raise ResolutionFailed(f"name lookup of {host} failed: {reason}")

    def _remember(self, host: str, known: _CacheEntry) -> _CacheEntry:
        while len(self._known) >= _NAMES_MAX:
            del self._known[next(iter(self._known))]
        self._known[host] = known
        return known

    def _start(self, host: str) -> "asyncio.Future[Sequence[str] | OSError]":
        if len(self._running) >= _LOOKUPS_MAX:
            raise ResolutionFailed(
                f"name lookup of {host} failed: {_LOOKUPS_MAX} other lookups are without an answer"
            )
        future: asyncio.Future[Sequence[str] | OSError] = self._loop.create_future()
        self._running[host] = future
        threading.Thread(
            target=self._work, args=(host, future), name="headrace-lookup", daemon=True
        ).start()
        return future

    def _work(self, host: str, future: "asyncio.Future[Sequence[str] | OSError]") -> None:
        answer: Sequence[str] | OSError
        try:
            answer = self._lookup(host)
        except OSError as error:
            answer = error
        except UnicodeError as error:
            answer = OSError(str(error))
        # The loop may be closed: the process can exit while a lookup hangs.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, host, future, answer)

    def _settle(
        self,
        host: str,
        future: "asyncio.Future[Sequence[str] | OSError]",
        answer: Sequence[str] | OSError,
    ) -> None:
        del self._running[host]
        if not future.done():
            future.set_result(answer)
