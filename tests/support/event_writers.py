"""The writers of a ledger run: raw HTTP, one connection and one key each; the next event is sent
only after the answer to the last one.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.ledger import Ledger, Numbered, Outcome, headers_of, numbered

ANSWER_SECONDS = 10.0
"""Longer than the ingress's own deadline (7 s without Kafka), so that a 503 is read before this
expires.
"""
CONNECT_SECONDS = 2.0
PAUSE_SECONDS = 0.05
"""Between two posts of one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One writer."""

    name: str
    host: str
    port: int
    path: str
    rate: float
    """Events per second at most."""
    persistent: bool = True
    """Whether it posts an event until it is acknowledged; otherwise it continues with the next
    after any answer.
    """
    size: int | None = None


class Load:
    """Writers that run from `start` to `stop`; all results go to the ledger."""

    def __init__(
        self,
        seed: int,
        ledger: Ledger,
        writers: Sequence[Writer],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seed = seed
        self._ledger = ledger
        self._writers = writers
        self._clock = clock
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start, evenly distributed over one interval."""
        for number, writer in enumerate(self._writers):
            offset = number / len(self._writers) / writer.rate
            self._tasks.append(asyncio.create_task(self._write(writer, offset), name=writer.name))

    async def stop(self, *, settle_seconds: float = 30.0) -> None:
        """Send no new event; persistent writers have `settle_seconds` to get their last event
        acknowledged.
        """
        self._stopping.set()
        _, late = await asyncio.wait(self._tasks, timeout=settle_seconds)
        for task in late:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        broken = [each for each in results if isinstance(each, Exception)]
        if broken:
            raise broken[0]

    async def _write(self, writer: Writer, offset: float) -> None:
        line = Line(writer.host, writer.port)
        due = self._clock() + offset
        counter = 0
        try:
            while not self._stopping.is_set():
                await self._rest(due - self._clock())
                if self._stopping.is_set():
                    return
                event = numbered(self._seed, writer.name, counter, size=writer.size)
                await self._deliver(line, writer, event)
                counter += 1
                # A delayed writer continues at its rate: a burst would hide the recovery that the
                # run measures.
                due = max(due + 1 / writer.rate, self._clock())
        finally:
            line.close()

    async def _deliver(self, line: "Line", writer: Writer, event: Numbered) -> None:
        request = request_of(writer, event)
        while True:
            self._ledger.sent(event, self._clock())
            status = await line.post(request)
            self._ledger.totals.unanswered += line.silent
            outcome = outcome_of(status)
            self._ledger.settled(event, outcome, self._clock(), status=status)
            if outcome is Outcome.OK or not writer.persistent:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)


def outcome_of(status: int | None) -> Outcome:
    """What an answer means for the ledger; None is no answer."""
    if status is None or status >= 500:
        return Outcome.INFO
    return Outcome.OK if 200 <= status < 300 else Outcome.FAIL


def request_of(writer: Writer, event: Numbered) -> bytes:
    """The whole request."""
    head = (
        f"POST {writer.path} HTTP/1.1\r\nHost: {writer.host}:{writer.port}\r\nContent-Length:"
        f" {len(event.data)}\r\n".encode()
    )
    return head + headers_of(event) + b"\r\n" + event.data


class Line:
    """A keep-alive connection that reconnects after every failure."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.silent = False
        """Whether the last request was sent completely and got no answer on an open connection."""

    async def post(self, request: bytes) -> int | None:
        """Send one request and read its answer; the status, or None without a complete answer."""
        self.silent = False
        try:
            if self._streams is None:
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(request)
            return await self._in_time(reader)
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
            self.close()
            return None

    async def _in_time(self, reader: asyncio.StreamReader) -> int:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(reader)
        except TimeoutError:
            self.silent = True
            raise

    async def _answer(self, reader: asyncio.StreamReader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        _, found, rest = head.partition(b"content-length:")
        if found:
            await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        if b"connection: close" in head:
            self.close()
        return status

    def close(self) -> None:
        """Drop the connection."""
        if self._streams:
            self._streams[1].close()
            self._streams = None
