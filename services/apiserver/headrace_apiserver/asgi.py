"""An ASGI application on a port, served by uvicorn on the event loop of the process."""

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
    """uvicorn without its signal handlers: the service handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install no handlers."""
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
        uvicorn_options: Mapping[str, Any],
        tls: bool = False,
    ) -> None:
        """Open the socket. Raises `PortInUse`, whose message names `purpose` and the `option` for
        another port.

        `uvicorn_options` are limits and the protocol. With `tls` the protocol itself speaks TLS.
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
            **uvicorn_options,
        )
        config.timeout_graceful_shutdown = 1
        self._server = QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The URL of the application."""
        return http_url(self.host, self.port, tls=self._tls)

    async def start(self) -> None:
        """Serve; returns when connections are accepted. Raises TimeoutError after 5 s."""
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
            async with asyncio.timeout(STOP_SECONDS):
                await task
        self._socket.close()
