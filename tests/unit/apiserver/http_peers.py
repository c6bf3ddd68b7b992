"""A client of raw bytes, and an application that a test controls."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from headrace_apiserver.connections import ConnectionLimits

LIMITS = ConnectionLimits(head_seconds=0.3, stall_seconds=0.3)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
Opened = Callable[[], Awaitable["Peer"]]


class Application:
    """Responds with `ok`, or `answer`, when `gate` is open, and counts requests."""

    def __init__(self) -> None:
        self.seen = 0
        self.working = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.answer: list[bytes] = [b"ok"]
        self.length = True
        """Whether responses have a Content-Length."""
        self.reads = False
        """Whether the body is read before the response."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.enough: Callable[[], bool] = lambda: False
        """When it returns True, the rest of a response is not sent."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen += 1
        self.working += 1
        self.headers = scope["headers"]
        try:
            await self.gate.wait()
            while self.reads and (await receive()).get("more_body", False):
                pass
            length = (
                [(b"content-length", str(sum(map(len, self.answer))).encode())]
                if self.length
                else []
            )
            await send({"type": "http.response.start", "status": 200, "headers": length})
            for piece in self.answer:
                if self.enough():
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    return
                await asyncio.sleep(0)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.working -= 1


class Peer:
    """A client of raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: bytes) -> tuple[int, bytes]:
        """Send `text` and read one response: its code and body."""
        self.writer.write(text)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        """The next response."""
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            return int(head.split()[1]), await self.reader.readexactly(int(length.split(b":")[1]))

    async def ended(self) -> None:
        """Return when the server has closed the connection."""
        async with asyncio.timeout(5):
            try:
                assert b"" == await self.reader.read()
            except ConnectionError:
                return

    async def ended_any(self) -> None:
        """As `ended`, whatever was received before."""
        with suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass
