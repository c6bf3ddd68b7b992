"""The choice of a Kafka for the tests leaves nothing open when Docker is only partly available."""

import contextlib
import gc
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from unittest import mock

import pytest

from tests.support.kafka import _container, _docker_runs


class _Engine(BaseHTTPRequestHandler):
    """A Docker engine without images, and without a registry to pull them from."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        known = {"/version": b'{"ApiVersion": "1.45"}', "/v1.45/_ping": b"OK"}
        self._answer(
            200 if self.path in known else 404,
            known.get(self.path, b'{"message": "no such thing"}'),
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(404, b'{"message": "no such image"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def _nothing_left_open() -> Iterator[None]:
    """Fail if the block leaves an object whose garbage collection warns."""
    left: list[str] = []
    gc.collect()
    with mock.patch.object(
        sys, "unraisablehook", lambda raised: left.append(str(raised.exc_value))
    ):
        yield
        gc.collect()
    assert left == []


@pytest.fixture
def engine_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    return path


def test_a_socket_that_outlived_its_engine_is_no_docker(engine_socket: Path) -> None:
    """Docker's library leaves its own socket open then, and some later test failed for it."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(engine_socket))
    with _nothing_left_open():
        assert not _docker_runs()


def test_an_engine_without_the_image_leaves_no_connection_open(
    engine_socket: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socketserver.ThreadingUnixStreamServer(os.fspath(engine_socket), _Engine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert _docker_runs()
            with _nothing_left_open(), contextlib.ExitStack() as stack:
                assert _container(stack) is None
        finally:
            server.shutdown()
            thread.join()
    assert "trying Maven and Java" in capsys.readouterr().out
