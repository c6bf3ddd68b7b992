"""The management port of a process: /metrics, /livez, /healthz, /readyz and /version, apart from the port that takes events.

Runs on the process's own loop, so that an answer proves that the loop turns.
"""

import asyncio
import contextlib
import platform
import socket
from collections.abc import Generator, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace import __version__
from headrace.runtime.health import Health, Report
from headrace.runtime.metrics import Flusher, Metrics
from headrace.runtime.ports import LOOPBACK, http_url, listen, port_of
from headrace.runtime.service import Service
from headrace.runtime.settings import ManagementSettings

START_SECONDS = 5.0
STOP_SECONDS = 2.0
EXCLUDED_MAX = 32


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: the service's life cycle owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the handlers alone."""
        yield


def management_app(service: str, health: Health, metrics: Metrics, facts: Mapping[str, str] | None = None) -> Starlette:
    """The pages; /version tells `facts` too.

    Plain text, as probes and scrapers expect; `?verbose` lists every check, `?exclude=NAME` leaves one out.
    """

    # Coroutines although they await nothing: plain functions would run on threads, and these must prove the loop.
    async def livez(request: Request) -> Response:
        return _page(health.liveness(), request)

    async def readyz(request: Request) -> Response:
        return _page(health.readiness(request.query_params.getlist("exclude")[:EXCLUDED_MAX]), request)

    async def show_metrics(request: Request) -> Response:
        # Flushed here, since counts belong to the loop; written on a thread, since events should not wait for a scrape.
        metrics.flush()
        page, content_type = await asyncio.to_thread(metrics.render)
        return Response(page, headers={"content-type": content_type})

    async def version(request: Request) -> Response:
        return JSONResponse({"service": service, "version": __version__, "python": platform.python_version(), **(facts or {})})

    pages = {"/livez": livez, "/healthz": livez, "/readyz": readyz, "/metrics": show_metrics, "/version": version}
    return Starlette(routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()])


def _page(report: Report, request: Request) -> Response:
    return Response(
        report.text(verbose="verbose" in request.query_params) + "\n",
        status_code=200 if report.passed else 503,
        media_type="text/plain",
        headers={"cache-control": "no-store"},
    )


class HttpServer:
    """A part of a service: any ASGI application on a port, on this loop."""

    def __init__(self, app: Any, *, host: str, port: int, purpose: str, option: str, served_with: Mapping[str, Any] | None = None) -> None:
        """Open the socket. Raises `PortInUse`, naming `purpose` and the `option` that chooses another port.

        `served_with` are options of uvicorn's, such as TLS, in place of the usual ones.
        """
        self._socket: socket.socket = listen(host, port, purpose=purpose, option=option)
        self.host = host
        self.port = port_of(self._socket)
        options: dict[str, Any] = {"timeout_keep_alive": 10, "limit_concurrency": 200, "h11_max_incomplete_event_size": 16_384}
        options |= served_with or {}
        self._tls = "ssl_certfile" in options
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, **options)
        config.timeout_graceful_shutdown = 1
        self._server = QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return http_url(self.host, self.port, tls=self._tls)

    async def start(self) -> None:
        """Serve; returns when connections are taken."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name=f"http {self.port}")
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


def management_server(
    service: str, health: Health, metrics: Metrics, *, host: str = LOOPBACK, port: int, facts: Mapping[str, str] | None = None
) -> HttpServer:
    """The management port, to be added to a `Service` first: it answers (not ready) while the rest starts, and to the end of draining."""
    metrics.gauge("build_info", "What runs here; always 1.", ["component", "version"], across="max").labels(service, __version__).set(1)
    app = management_app(service, health, metrics, facts)
    return HttpServer(app, host=host, port=port, purpose="the management port (health, metrics)", option="--management-port")


def add_management(
    service: Service, metrics: Metrics, settings: ManagementSettings, *, default_port: int, facts: Mapping[str, str] | None = None
) -> HttpServer:
    """Put the management port and what keeps its counts new into `service`, before everything else. Raises `PortInUse`."""
    port = default_port if settings.port is None else settings.port
    server = management_server(service.name, service.health, metrics, host=settings.host, port=port, facts=facts)
    service.add("management", server)
    service.add("metrics", Flusher(metrics))
    return server
