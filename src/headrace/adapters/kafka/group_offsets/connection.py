"""The connections to brokers: one for each, opened when it is needed and closed after it was not
used for a while.

aiokafka's connection writes a request at once and matches the answers, in their order. This adds
what it lacks: a limit of requests in flight, the decision at the last moment whether to write, the
end of a connection that no longer answers, and its replacement after credentials were renewed
(decision 0027).
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import BrokerResponseError
from aiokafka.errors import KafkaError as ClientError
from aiokafka.protocol.admin import ApiVersionRequest
from confluent_kafka import KafkaError

from headrace.adapters.kafka.credentials import ClientAge
from headrace.adapters.kafka.errors import (
    broker_error,
    connection_error,
    login_error,
    settings_error,
    tls_error,
)
from headrace.adapters.kafka.group_offsets.access_token import TokenRefused
from headrace.adapters.kafka.group_offsets.requests import Address
from headrace.adapters.kafka.group_offsets.security import ConnectionSecurity
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import Permanent

CONNECT_SECONDS: Final = 10.0
"""Time limit for a connection to be ready, TLS and SASL included."""
ANSWER_SECONDS: Final = 10.0
"""A connection that leaves a request unanswered for this time is closed."""
IDLE_SECONDS: Final = 240.0
"""An unused connection is closed after this time. Brokers close it after ten minutes."""
IN_FLIGHT_MAX: Final = 64
"""Requests in flight of one connection."""
_CLOSE_SECONDS: Final = 1.0
_CAUSES_MAX: Final = 8
_REASON_MAX: Final = 200

# Nothing that it logs is needed: failures are in the errors that it raises. Its debug lines have
# whole requests, with the password of SASL PLAIN, and it logs each login.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)

Allowed = Callable[[], bool]


class Unanswered(Exception):
    """There is no answer to a request."""

    def __init__(self, error: KafkaError, *, written: bool = False) -> None:
        """`written`: whether the broker may have received the request."""
        super().__init__(error.str())
        self.error = error
        self.written = written


class NotAllowed(Exception):
    """The request was not written, because its sender did not allow it any longer."""


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # It has no types.
    """A connection that closes at once. asyncio waits until the other side has ended TLS too, which
    a broker that has refused a login delays; aiokafka then has no reference to it any longer.
    """

    def close(self, reason: object = None, exc: BaseException | None = None) -> Any:
        """As aiokafka's."""
        writer = self._writer
        closed = super().close(reason, exc)
        if writer is not None:
            writer.transport.abort()
        return closed


class BrokerConnection:
    """One open connection."""

    def __init__(
        self,
        connection: Any,
        writer: asyncio.StreamWriter,
        versions: Mapping[int, tuple[int, int]],
        *,
        age: ClientAge,
        expires_at: float,
    ) -> None:
        """`expires_at` is when the broker will end it, in monotonic seconds."""
        self._connection = connection
        self._writer = writer
        self._versions = versions
        self._age = age
        self._expires_at = expires_at
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._answers: set[asyncio.Task[Any]] = set()
        self._retired = False

    @property
    def usable(self) -> bool:
        """Whether requests may be sent on it."""
        return not self._retired and self._connection.connected()

    @property
    def outdated(self) -> bool:
        """Whether its credentials were renewed or end soon."""
        return self._age.due or time.monotonic() >= self._expires_at

    def has(self, request: int, version: int) -> bool:
        """Whether the broker takes this version of a kind of request."""
        first, last = self._versions.get(request, (0, -1))
        return first <= version <= last

    async def send(self, request: Any, allowed: Allowed = lambda: True) -> Any:
        """Send a request and return the answer. `allowed` is called immediately before the request
        is written; nothing else of this process runs between them.

        Raises `Unanswered`, `NotAllowed`, and ValueError for a request with too long a text. The
        caller has a deadline.
        """
        await self._slots.acquire()
        try:
            answer = await self._write(request, allowed)
        except BaseException:
            self._slots.release()
            raise
        # The answer takes its place in the order of answers even when nobody waits any longer.
        self._answers.add(answer)
        answer.add_done_callback(self._on_answer)
        await asyncio.wait({answer})
        try:
            return answer.result()
        except (ClientError, OSError, ValueError, asyncio.CancelledError) as error:
            raise Unanswered(reason_of(error), written=True) from error

    async def _write(self, request: Any, allowed: Allowed) -> "asyncio.Task[Any]":
        with contextlib.suppress(OSError):  # `usable` says the same below.
            await self._writer.drain()
        if not self.usable:
            raise Unanswered(connection_error("the connection was closed"))
        if not allowed():
            raise NotAllowed
        try:
            answer = self._connection.send(request)
        except ClientError as error:
            raise Unanswered(reason_of(error)) from error
        return asyncio.get_running_loop().create_task(answer)

    def _on_answer(self, answer: "asyncio.Task[Any]") -> None:
        self._answers.discard(answer)
        self._slots.release()
        if answer.cancelled() or isinstance(answer.exception(), TimeoutError):
            self.abort()
        elif self._retired and not self._answers:
            self._connection.close()

    def retire(self) -> None:
        """Send nothing more; close after the last answer."""
        self._retired = True
        if not self._answers:
            self._connection.close()

    def abort(self) -> None:
        """Close at once. What the system has not sent yet is dropped."""
        self._retired = True
        self._connection.close()

    async def close(self) -> None:
        """Close at once, and wait for that."""
        self.abort()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()


class BrokerConnections:
    """The connections to all brokers of a cluster."""

    def __init__(
        self, options: KafkaOptions, *, on_lost: Callable[[Address], None] = lambda _: None
    ) -> None:
        """`on_lost` is called with the broker of a connection that has ended."""
        self._options = options
        self._on_lost = on_lost
        self._open: dict[Address, BrokerConnection] = {}
        self._opening: dict[Address, asyncio.Task[BrokerConnection]] = {}
        self._retired: set[BrokerConnection] = set()
        self._failures = 0
        self._security: tuple[int, ConnectionSecurity] | None = None
        self._closed = False

    @property
    def addresses(self) -> list[Address]:
        """The brokers that there is a usable connection to."""
        return [address for address, each in self._open.items() if each.usable]

    async def connection(self, address: Address) -> BrokerConnection:
        """Return a usable connection to a broker, after at most `CONNECT_SECONDS`. Raises
        `Unanswered`.
        """
        found = self._open.get(address)
        if found is not None and found.usable and found.outdated:
            self._replace(address, found)
            found = None
        if found is not None and found.usable:
            return found
        if self._closed:
            raise Unanswered(connection_error("the client is closed"))
        opening = self._opening.get(address)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(
                self._connect(address), name=f"connect to {address}"
            )
            self._opening[address] = opening
            opening.add_done_callback(lambda done: self._on_open(address, done))
        # Not cancelled with one of those that wait for it.
        await asyncio.wait({opening})
        try:
            return opening.result()
        except asyncio.CancelledError:
            raise Unanswered(connection_error("the client is closed")) from None

    async def close(self) -> None:
        """Close all connections. Requests without an answer fail."""
        self._closed = True
        opening = list(self._opening.values())
        for each in opening:
            each.cancel()
        if opening:
            await asyncio.wait(opening)
        await asyncio.gather(*(each.close() for each in (*self._open.values(), *self._retired)))

    def _replace(self, address: Address, outdated: BrokerConnection) -> None:
        del self._open[address]
        self._retired.add(outdated)
        outdated.retire()

    def _on_open(self, address: Address, done: "asyncio.Task[BrokerConnection]") -> None:
        del self._opening[address]
        if not done.cancelled() and done.exception() is None:
            self._open[address] = done.result()

    def _on_end(self, address: Address, ended: BrokerConnection) -> None:
        """A connection was closed, by whichever side."""
        self._retired.discard(ended)
        if self._open.get(address) is ended:
            del self._open[address]
            self._on_lost(address)

    async def _connect(self, address: Address) -> BrokerConnection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._open_any(address)
        except TimeoutError:
            self._failures += 1
            reason = f"{address}: no connection within {CONNECT_SECONDS:g} s"
            raise Unanswered(connection_error(reason)) from None
        except Permanent as error:
            raise Unanswered(settings_error(str(error))) from error
        # Of aiokafka's own checks of what a broker sends, some are assertions and look-ups.
        except (ClientError, OSError, EOFError, ValueError, AssertionError, LookupError) as error:
            self._failures += 1
            raise Unanswered(reason_of(error, f"{address}: ")) from error

    async def _open_any(self, address: Address) -> BrokerConnection:
        """Connect to one of the addresses of the host; first to another one after each failure, as
        one that drops packets uses up all the time.
        """
        credentials = self._options.credentials
        # Before the settings are used: a client that has older ones is replaced once more.
        age = credentials.age(f"group offsets {address}")
        if self._security is None or self._security[0] != credentials.version:
            self._security = credentials.version, ConnectionSecurity(credentials.settings)
        security = self._security[1]
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        hosts = list(dict.fromkeys(each[4][0] for each in found))
        first = self._failures % len(hosts)
        hosts = hosts[first:] + hosts[:first]
        for host in hosts[:-1]:
            with contextlib.suppress(ConnectionRefusedError):
                return await self._open_one(address, host, security, age)
        return await self._open_one(address, hosts[-1], security, age)

    async def _open_one(
        self, address: Address, host: str | int, security: ConnectionSecurity, age: ClientAge
    ) -> BrokerConnection:
        ended = asyncio.get_running_loop().create_future()
        connection = _Connection(
            host,
            address.port,
            client_id=self._options.client_id,
            request_timeout_ms=int(ANSWER_SECONDS * 1000),
            max_idle_ms=int(IDLE_SECONDS * 1000),
            on_close=lambda *_: ended.set_result(None),
            **await security.settings(address.host),
        )
        try:
            _, writer = await connection.connect()
            answer = await connection.send(ApiVersionRequest())
        except BaseException:
            connection.close()
            raise
        versions = {key: (first, last) for key, first, last in answer.api_versions}
        opened = BrokerConnection(
            connection, writer, versions, age=age, expires_at=security.expires_at
        )
        ended.add_done_callback(lambda _: self._on_end(address, opened))
        return opened


def reason_of(error: BaseException, where: str = "") -> KafkaError:
    """Return the reason why there is no answer, as an error of the client library."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < _CAUSES_MAX:
        causes.append(cause)
        cause = cause.__cause__
    refused = next((each for each in causes if isinstance(each, BrokerResponseError)), None)
    if refused is not None:
        return broker_error(refused.errno, f"{where}{' '.join(map(str, refused.args))}")
    if any(isinstance(each, TimeoutError) for each in causes):
        return connection_error(f"{where}no answer within {ANSWER_SECONDS:g} s")
    root = causes[-1]
    text = where + (str(root)[:_REASON_MAX] or type(root).__name__)
    if isinstance(root, TokenRefused):
        return login_error(text)
    return tls_error(text) if _is_tls_refusal(root) else connection_error(text)


def _is_tls_refusal(error: BaseException) -> bool:
    """Whether one side does not accept the other; a connection that ends is none."""
    ended = ssl.SSLEOFError, ssl.SSLZeroReturnError
    return isinstance(error, ssl.SSLError) and not isinstance(error, ended)
