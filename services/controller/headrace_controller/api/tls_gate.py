"""The TLS handshake of a connection: counted from its first packet on, with a deadline of its own.

asyncio's server with TLS shows a connection only after its handshake, so any number of clients could wait there, each with its buffers.
"""

import asyncio
import ssl
from contextlib import suppress

from headrace_controller.api.connections import BoundedProtocol
from headrace_controller.api.waiting_room import WaitingRoom

_SHUTDOWN_SECONDS = 2.0
"""A client that does not answer the end of TLS is not waited for any longer."""


class TlsGate(asyncio.Protocol):
    """Stands in front of an HTTP protocol until its connection speaks TLS."""

    def __init__(self, inner: BoundedProtocol, context: ssl.SSLContext, room: WaitingRoom, *, handshake_seconds: float) -> None:
        self._inner = inner
        self._context = context
        self._room = room
        self._seconds = handshake_seconds
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake."""
        self._transport = transport
        # Nothing is read before the TLS layer is there to read it.
        transport.pause_reading()
        self._room.admit(self)
        self._room.enter(self)
        # The server ends what is in there when it stops.
        self._inner.connections.add(self)  # type: ignore[arg-type]
        if not transport.is_closing():
            self._task = asyncio.get_running_loop().create_task(self._shake(transport), name="tls handshake")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._forget()

    def _forget(self) -> None:
        self._room.forget(self)
        self._inner.connections.discard(self)

    def cut(self) -> None:
        """End the connection now."""
        self._forget()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def shutdown(self) -> None:
        """The server stops."""
        self.cut()

    async def _shake(self, transport: asyncio.Transport) -> None:
        secured: asyncio.Transport | None = None
        # An error of TLS, a client that goes, one that is late (TimeoutError): all of them OSErrors, and there is nobody to answer.
        with suppress(OSError):
            async with asyncio.timeout(self._seconds):
                secured = await asyncio.get_running_loop().start_tls(
                    transport,
                    self._inner,
                    self._context,
                    server_side=True,
                    ssl_handshake_timeout=self._seconds,
                    ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
                )
        self._forget()
        if secured is None or secured.is_closing():
            transport.abort()
            return
        self._inner.beneath(transport)
        self._inner.connection_made(secured)
