"""The TLS handshake of a connection, with a deadline and counted as an idle connection.

asyncio's TLS server reports a connection only after its handshake, so any number of clients could
remain in the handshake, each with its buffers.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import cast

from headrace_apiserver.connection_limiter import ConnectionLimiter
from headrace_apiserver.connections import BoundedProtocol

_SHUTDOWN_SECONDS = 2.0
"""How long to wait for a client to confirm the end of TLS."""


class TlsHandshakeProtocol(asyncio.Protocol):
    """Performs the handshake of a connection and then hands it to an HTTP protocol."""

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
        """Bytes that arrived before the TLS layer was set up: most clients start the handshake at
        once.
        """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the handshake."""
        self._transport = transport
        # Reading is not paused here: uvloop starts to read after this method anyway, and would then
        # ignore the next pause.
        self._limiter.add(self)
        self._limiter.mark_idle(self)
        # The server ends the connections in this set when it stops.
        self._inner.connections.add(self)  # type: ignore[arg-type]
        if not transport.is_closing():
            self._task = asyncio.get_running_loop().create_task(
                self._handshake(transport), name="tls handshake"
            )

    def data_received(self, data: bytes) -> None:
        """Keep the bytes for the TLS layer, which takes over in the next iteration of the loop: one
        or two reads at most.
        """
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the limiter."""
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
        # A TLS error, a client that disconnects, a timeout: all are OSErrors, and no response can
        # be sent.
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
            # start_tls pauses reading, replaces this protocol by the TLS protocol, and starts that
            # in the next iteration of the loop. The call below runs after that and before anything
            # is read.
            await asyncio.sleep(0)
            protocol = transport.get_protocol()
            if self._early and protocol is not self:
                # uvloop's protocol has the methods of a BufferedProtocol, but not the type.
                loop.call_soon(_feed, cast(asyncio.BufferedProtocol, protocol), bytes(self._early))
                self._early.clear()
            return await handshake
        finally:
            handshake.cancel()


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Pass bytes to a protocol as its transport does."""
    while data:
        buffer = memoryview(protocol.get_buffer(len(data))).cast("B")
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
