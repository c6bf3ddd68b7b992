"""The subscribers of a ledger run: one process, one path per sink, scripted over HTTP at run time.

`python -m tests.support.sinks --seed N --log FILE` prints `port P` and serves until SIGTERM.
`POST /<sink>` accepts an event; `PUT /.script/<sink>`, `GET /.counts`, `GET /.requests/<sink>`,
`POST /.flush` and `POST /.forget` are for the test. Arrivals go to FILE as JSON lines.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import json
import signal
import time
from collections import Counter, defaultdict, deque
from http import HTTPStatus
from pathlib import Path
from typing import TextIO, cast

import httptools

from tests.support.ledger import ADDED, TYPES, Arrival, damage, write_arrivals
from tests.support.sink_scripts import Mode, Script

REPLY_PREFIX = "r:"
"""Prefix of the id of a reply; the rest is the id of the event it answers."""
ERRORS = frozenset({"knativeerrordest", "knativeerrorcode", "knativeerrordata"})
FLUSH_SECONDS = 0.2
DRIP_SECONDS = 0.2
TICK_SECONDS = 0.02
TICKS = 3
"""How many ticks ago everything had been noticed that is noticed now: what happens after a poll of
the event loop is noticed at the next one, and a closed connection one pass later.
"""
REQUESTS_MAX = 5_000
"""Whole requests kept per sink."""
BOMB = gzip.compress(bytes(32 << 20))
_ANSWERS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Sinks:
    """All sinks of the process, and their arrivals."""

    def __init__(self, seed: int, log: TextIO) -> None:
        self.seed = seed
        self.scripts: dict[str, Script] = defaultdict(Script)
        self.requests: dict[str, deque[dict[str, object]]] = defaultdict(
            lambda: deque(maxlen=REQUESTS_MAX)
        )
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._taken: dict[str, set[str]] = defaultdict(set)
        self._seen: Counter[tuple[str, str]] = Counter()
        self._log = log
        self._arrivals: list[Arrival] = []
        self._ticks = deque((time.monotonic(),) * TICKS, maxlen=TICKS)

    def tick(self) -> None:
        """Note that the event loop runs; to be called every `TICK_SECONDS`."""
        self._ticks.append(time.monotonic())

    def lag(self, now: float) -> float:
        """How much earlier than `now` what is noticed now may have happened, in seconds, beyond
        what an idle loop needs.
        """
        return max(0.0, now - self._ticks[0] - TICKS * TICK_SECONDS)

    def decide(self, sink: str, event: str) -> int | None:
        """The failure that the sink's script has for this request; None if there is none."""
        script = self.scripts[sink]
        self.counts[sink]["requests"] += 1
        text = event.rpartition(".")[2]
        counter = int(text) if text.isdecimal() else 0
        if script.failures and counter % script.failures_every == 0:
            self._seen[sink, event] += 1
            if self._seen[sink, event] <= script.failures:
                return script.failure_status
        return script.poisoned(counter) if text else None

    def note(self, arrival: Arrival) -> None:
        """Record an arrival."""
        self._arrivals.append(arrival)
        counts = self.counts[arrival.sink]
        if arrival.accepted:
            counts["accepted"] += 1
            self._taken[arrival.sink].add(arrival.event)
            counts["events"] = len(self._taken[arrival.sink])
        if arrival.damage:
            counts["damaged"] += 1

    def flush(self) -> None:
        """Write the arrivals since the last call."""
        if self._arrivals:
            self._log.write(write_arrivals(self._arrivals))
            self._log.flush()
            self._arrivals.clear()

    def _forget(self) -> None:
        for kept in (self.scripts, self.requests, self.counts, self._taken, self._seen):
            kept.clear()

    def control(self, method: str, path: str, body: bytes) -> bytes:
        """Serve the test's requests."""
        command, _, sink = path.removeprefix("/.").partition("/")
        if command == "script" and method == "PUT":
            self.scripts[sink] = Script.from_json(body)
        elif command == "counts":
            return json.dumps(self.counts).encode()
        elif command == "requests":
            return json.dumps(list(self.requests[sink])).encode()
        elif command == "flush":
            self.flush()
        elif command == "forget":
            self._forget()
        return b"{}"


class SinkConnection(asyncio.Protocol):
    """One connection of a dispatcher or of the test; one request after the other."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._open: tuple[str, str, str, float, str | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse; invalid input ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Record an arrival that was never answered."""
        self._settle(None)
        if self._timer:
            self._timer.cancel()

    def on_message_begin(self) -> None:
        """A request starts: it is in flight from here."""
        self._start = time.monotonic()
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is complete: follow the script."""
        path, body = self._url.decode("latin-1"), b"".join(self._body)
        if path.startswith("/."):
            self._write(
                200, {}, self._sinks.control(self._parser.get_method().decode(), path, body)
            )
            return
        sink = path.lstrip("/").partition("?")[0]
        attributes = {name[3:]: value for name, value in self._headers if name.startswith("ce-")}
        event, found = self._compare(sink, attributes, body)
        self._open = (sink, event, attributes.get("partitionkey", ""), self._start, found)
        script = self._sinks.scripts[sink]
        if script.record:
            encoded = base64.b64encode(body).decode()
            self._sinks.requests[sink].append(
                {"path": path, "headers": self._headers, "body": encoded, "at": self._start}
            )
        self._act(script, self._sinks.decide(sink, event), attributes, body)

    def _compare(
        self, sink: str, attributes: dict[str, str], body: bytes
    ) -> tuple[str, str | None]:
        """The id of the event in the ledger, and how the received one differs."""
        event = attributes.get("id", "")
        if event.startswith(REPLY_PREFIX):
            # An answer to an answer has it twice.
            event = event.rpartition(REPLY_PREFIX)[2]
            counter = event.rpartition(".")[2]
            attributes = {
                **attributes,
                "id": event,
                "type": TYPES[int(counter) % len(TYPES)] if counter.isdecimal() else "",
            }
        return event, damage(
            self._sinks.seed,
            attributes,
            body,
            allowed=ADDED | ERRORS if sink.startswith("dls") else ADDED,
        )

    def _act(
        self, script: Script, failure: int | None, attributes: dict[str, str], body: bytes
    ) -> None:
        if failure is not None:
            self._later(script.delay_seconds, failure, script.headers, b"")
            return
        match script.mode:
            case Mode.ANSWER:
                self._later(
                    script.delay_seconds, script.status, script.headers, script.body.encode()
                )
            case Mode.HANG:
                pass
            case Mode.DRIP:
                self._transport.write(_ANSWERS[200] + b"Content-Length: 100000\r\n\r\n")
                self._drip()
            case Mode.BOMB:
                # Not a valid event: the sender must treat it as a failure.
                self._settle(502)
                self._later(script.delay_seconds, 200, {"Content-Encoding": "gzip"}, BOMB)
            case Mode.RESET:
                self._transport.abort()
            case Mode.REPLY:
                reply = {
                    f"ce-{name}": value for name, value in attributes.items() if name not in ADDED
                }
                reply |= {
                    "ce-id": REPLY_PREFIX + attributes["id"],
                    "ce-type": script.reply_type,
                    "Content-Type": "application/octet-stream",
                }
                self._later(script.delay_seconds, 200, reply, body)

    def _later(self, seconds: float, status: int, headers: object, body: bytes) -> None:
        lines = cast(dict[str, str], headers)
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(
                seconds, self._write, status, lines, body
            )
        else:
            self._write(status, lines, body)

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._settle(status)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        self._transport.write(
            _ANSWERS[status] + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )

    def _drip(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b".")
            self._timer = asyncio.get_running_loop().call_later(DRIP_SECONDS, self._drip)

    def _settle(self, status: int | None) -> None:
        if self._open:
            sink, event, key, start, found = self._open
            self._open = None
            now = time.monotonic()
            lag = self._sinks.lag(now)
            self._sinks.note(Arrival(sink, event, key, start, now, status, found, lag))


async def _tick(sinks: Sinks) -> None:
    while True:
        sinks.tick()
        await asyncio.sleep(TICK_SECONDS)


async def serve(seed: int, log: Path, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    with log.open("a", encoding="utf-8") as file:
        sinks = Sinks(seed, file)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        server = await loop.create_server(
            lambda: SinkConnection(sinks), "127.0.0.1", port, backlog=1024
        )
        print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
        ticking = asyncio.create_task(_tick(sinks))
        while not ended.is_set():
            sinks.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), FLUSH_SECONDS)
        ticking.cancel()
        server.close()
        sinks.flush()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(serve(options.seed, options.log, options.port))


if __name__ == "__main__":
    main()
