"""Counts the bytes of responses that the client has not read, where uvicorn writes them."""

import asyncio
from collections.abc import Callable
from typing import Any


class CountingTransport:
    """A transport that counts what is written, and calls `on_backlog` when the client has not read
    all of it.

    Buffers of the kernel do not count: they cost this process no memory.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        raw_transport: asyncio.Transport | None,
        on_backlog: Callable[[], None],
    ) -> None:
        """`raw_transport`: the transport of the TLS layer, which has a buffer of its own."""
        self._transport = transport
        self._raw_transport = raw_transport
        self._on_backlog = on_backlog
        self._written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write as `asyncio.Transport.write` does."""
        self._written += len(data)
        self._transport.write(data)
        if self.unsent_bytes:
            self._on_backlog()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that this process buffers until the client reads them."""
        buffered = (
            self._raw_transport.get_write_buffer_size() if self._raw_transport is not None else 0
        )
        return self._transport.get_write_buffer_size() + buffered

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to the client so far, without the framing of TLS."""
        return self._written - self.unsent_bytes
