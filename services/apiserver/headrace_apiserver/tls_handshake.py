"""The TLS handshake of a connection: counted from its first packet on, with a deadline of its own.

asyncio's server with TLS shows a connection only after its handshake, so any number of clients
could wait there, each with its buffers.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import cast

from headrace_apiserver.connection_limiter import ConnectionLimiter
from headrace_apiserver.connections import BoundedProtocol

_SHUTDOWN_SECONDS = 2.0
"""A client that does not answer the end of TLS is not waited for any longer."""


class TlsHandshakeProtocol(asyncio.Protocol):
    """Stands in front of an HTTP protocol until its connection speaks TLS."""

    def __init__(
        self,
        inner: BoundedProtocol,
        context: ssl.SSLContext,
        limiter: ConnectionLimiter,
        *,
        handshake_seconds: float,
    ) -> None:
        self._inner = inner
        self._context = context
        self._limiter = limiter
        self._seconds = handshake_seconds
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._early = bytearray()
        """What came before the TLS layer was there to read it: most clients send the beginning of
        the handshake at once.
        """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake."""
        self._transport = transport
        # Not paused: uvloop begins to read after this method all the same, and would then take the
        # next pause for granted.
        self._limiter.add(self)
        self._limiter.mark_idle(self)
        # The server ends what is in there when it stops.
        self._inner.connections.add(self)  # type: ignore[arg-type]
        if not transport.is_closing():
            self._task = asyncio.get_running_loop().create_task(
                self._handshake(transport), name="tls handshake"
            )

    def data_received(self, data: bytes) -> None:
        """Keep what belongs to the TLS layer. It takes over in the next turn of the loop, so this
        is one read or two.
        """
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._forget()

    def _forget(self) -> None:
        self._limiter.remove(self)
        self._inner.connections.discard(self)

    def abort(self) -> None:
        """End the connection now."""
        self._forget()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def shutdown(self) -> None:
        """The server stops."""
        self.abort()

    async def _handshake(self, transport: asyncio.Transport) -> None:
        secured: asyncio.Transport | None = None
        # An error of TLS, a client that goes, one that is late (TimeoutError): all of them
        # OSErrors, and there is nobody to answer.
        with suppress(OSError):
            async with asyncio.timeout(self._seconds):
                secured = await self._start_tls(transport)
        self._forget()
        if secured is None or secured.is_closing():
            transport.abort()
            return
        self._inner.set_raw_transport(transport)
        self._inner.connection_made(secured)

    async def _start_tls(self, transport: asyncio.Transport) -> asyncio.Transport | None:
        loop = asyncio.get_running_loop()
        started = loop.start_tls(
            transport,
            self._inner,
            self._context,
            server_side=True,
            ssl_handshake_timeout=self._seconds,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        handshake = loop.create_task(started, name="tls handshake of a connection")
        try:
            # It pauses reading, puts the TLS protocol in the place of this one, and lets it begin
            # in the next turn of the loop. What is called then comes after that and before anything
            # is read.
            await asyncio.sleep(0)
            protocol = transport.get_protocol()
            if self._early and protocol is not self:
                # uvloop's is a BufferedProtocol in all but its type.
                loop.call_soon(_feed, cast(asyncio.BufferedProtocol, protocol), bytes(self._early))
                self._early.clear()
            return await handshake
        finally:
            handshake.cancel()


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Give a protocol bytes as its transport does."""
    while data:
        buffer = memoryview(protocol.get_buffer(len(data))).cast("B")
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
