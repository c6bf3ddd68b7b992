"""An ASGI application on a port, under uvicorn, on the process's own loop."""

import asyncio
import contextlib
import socket
from collections.abc import Generator, Mapping
from typing import Any

import uvicorn

from headrace.runtime.sockets import http_url, listen, port_of

START_SECONDS = 5.0
STOP_SECONDS = 2.0


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: the service's life cycle owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the handlers alone."""
        yield


class AsgiServer:
    """A part of a service."""

    def __init__(
        self,
        app: Any,
        *,
        host: str,
        port: int,
        purpose: str,
        option: str,
        served_with: Mapping[str, Any],
        tls: bool = False,
    ) -> None:
        """Open the socket. Raises `PortInUse`, naming `purpose` and the `option` that chooses
        another port.

        `served_with` are options of uvicorn's: limits, and the protocol, which speaks TLS itself
        when `tls`.
        """
        self._socket: socket.socket = listen(host, port, purpose=purpose, option=option)
        self.host = host
        self.port = port_of(self._socket)
        self._tls = tls
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            **served_with,
        )
        config.timeout_graceful_shutdown = 1
        self._server = QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return http_url(self.host, self.port, tls=self._tls)

    async def start(self) -> None:
        """Serve; returns when connections are taken."""
        self._task = asyncio.create_task(
            self._server.serve(sockets=[self._socket]), name=f"http {self.port}"
        )
        async with asyncio.timeout(START_SECONDS):
            while not self._server.started:
                if self._task.done():
                    await self._task
                    return
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Close connections and the port. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            self._socket.close()
            return
        self._server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task, STOP_SECONDS)
        self._socket.close()
