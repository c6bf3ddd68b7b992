"""A NATS server with JetStream for tests: a process of its own on loopback, with its data in a
temporary directory. Tests stop, kill, freeze and restart it on the same port and data.
"""

import asyncio
import base64
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.messages import decode
from headrace.adapters.nats.names import stream_name
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.record import Record
from headrace.runtime.suspension import suspend
from tests.support.kafka import free_port
from tests.support.wait_until import wait_until

BINARY = shutil.which("nats-server")
UNPROVEN = "not proven here: needs nats-server on PATH (Debian package nats-server, 2.9 or newer)"
MAX_PAYLOAD = 8 * 1_048_576
START_SECONDS = 20.0
STOP_SECONDS = 20.0


class NatsServer:
    """One server with file storage."""

    def __init__(self, directory: Path, *, settings: str = "") -> None:
        """`settings` are lines for the configuration file, for example `authorization`."""
        self.directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "server.conf").write_text(
            f'listen: "127.0.0.1:{self._port}"\n'
            f"max_payload: {MAX_PAYLOAD}\n"
            f'jetstream {{ store_dir: "{directory / "data"}" }}\n' + settings,
            encoding="utf-8",
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Its process; None while it does not run."""
        return self._process.pid if self._process is not None else None

    @property
    def options(self) -> NatsOptions:
        """Options of the adapters."""
        return NatsOptions(servers=(self.url,))

    def start(self) -> None:
        """Start and wait until it answers."""
        assert BINARY is not None, UNPROVEN
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "-c", str(self.directory / "server.conf")], stdout=log, stderr=log
            )
        wait_until(self._accepts, START_SECONDS, f"nats-server accepts on {self.url}: {self.log}")

    @property
    def log(self) -> str:
        """The end of what it has logged."""
        with contextlib.suppress(OSError):
            return (self.directory / "server.log").read_text(encoding="utf-8")[-2000:]
        return ""

    def stop(self) -> None:
        """End it as an operator does. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a chance to write anything. Idempotent."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it."""
        if self._process is not None:
            suspend(self._process)

    def cont(self) -> None:
        """Undo `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(STOP_SECONDS)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False


def new_topic(prefix: str = "test") -> str:
    """A name that no other test has."""
    return f"jetstream:{prefix}.{uuid.uuid4().hex[:12]}"


async def ready(connection: NatsConnection, seconds: float = 10.0) -> None:
    """Wait until JetStream answers: it does so a moment after the server accepts connections."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await connection.call("INFO", timeout_seconds=1.0)
            return
        except LogUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def read_stream(options: NatsOptions, topic: str, count: int) -> list[Record]:
    """The first records of a topic, read from the stream without a consumer. Waits for them."""
    connection = NatsConnection(options)
    try:
        records: list[Record] = []
        deadline = time.monotonic() + 10.0
        await ready(connection)
        while len(records) < count:
            path = f"$JS.API.STREAM.MSG.GET.{stream_name(topic)}"
            request = json.dumps({"seq": len(records) + 1}).encode()
            message = json.loads((await connection.request(path, request)).data).get("message")
            if message is None:
                assert time.monotonic() < deadline, f"{len(records)} of {count} records"
                await asyncio.sleep(0.02)
                continue
            lines = base64.b64decode(message.get("hdrs") or "").decode().split("\r\n")[1:]
            pairs = (line.split(":", 1) for line in lines if line)
            headers = {name: value.strip() for name, value in pairs}
            records.append(decode(headers, base64.b64decode(message.get("data") or "")))
        return records
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """The session's server."""
    if BINARY is None:
        pytest.skip(UNPROVEN)
    with tempfile.TemporaryDirectory(prefix="headrace-nats-", ignore_cleanup_errors=True) as path:
        server = NatsServer(Path(path))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture
def private_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server for this test alone, for tests that stop, kill or freeze it."""
    if BINARY is None:
        pytest.skip(UNPROVEN)
    server = NatsServer(tmp_path / "nats")
    try:
        server.start()
        yield server
    finally:
        server.kill()
