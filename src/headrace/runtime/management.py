"""The management port of a process serves /metrics, /livez, /healthz, /readyz, /startupz, /version
and /configz, separate from the port that receives events.

It runs on the event loop of the process, so that a response proves that the loop runs. It uses the
same server as the ingress: the same limits and deadlines protect this port, and a data plane
process does not have to load a web framework (decision 0012).
"""

import asyncio
import json
import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs

from headrace import __version__
from headrace.adapters.http.server import Exchange, Fields, HttpServer, LocalGuard, ServerLimits
from headrace.adapters.http.server_local_guard import is_local_bind, names_of
from headrace.runtime.certificate_metrics import measure_certificates
from headrace.runtime.configuration import configuration
from headrace.runtime.connection_metrics import measure_connections
from headrace.runtime.health import Health, HealthReport
from headrace.runtime.metrics import Metrics, MetricsFlusher
from headrace.runtime.metrics_format import wants_openmetrics
from headrace.runtime.open_files import limit as open_files
from headrace.runtime.service import Service
from headrace.runtime.settings import ManagementSettings, Settings
from headrace.runtime.sockets import LOOPBACK, http_url, listen, port_of

EXCLUDED_MAX = 32
SCRAPERS_MAX = 32
"""Maximum number of /metrics requests that wait for one rendering. A waiting connection cannot be
closed to make room for a probe.
"""
LIMITS = ServerLimits(
    head_bytes_max=16_384,
    body_bytes_max=1_024,
    unread_bytes_max=65_536,
    heads_bytes_max=524_288,
    connections_max=200,
    connections_per_peer_max=200,
    drain_seconds=1.0,
)

_OPEN_FILES_SHARE = 8
"""Connections of this port use at most this fraction (1/8) of the open files limit."""
_PARAMETERS_MAX = 64
_TEXT: Fields = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
_JSON: Fields = ((b"content-type", b"application/json"),)

Query = Mapping[str, Sequence[str]]
Page = Callable[[Exchange, Query], None]
Pages = Mapping[bool, tuple[bytes, str]]
"""A rendering in each format that was asked for, OpenMetrics (True) or text, with its content
type.
"""


class ManagementPort:
    """A component of a service. Add it first: it answers (not ready) while the others start, and
    until draining ends.

    Responses are plain text, as probes and scrapers expect. `?verbose` lists every check,
    `?exclude=NAME` omits one. /version also shows `facts`, and /configz the `settings` that the
    process uses, by environment variable.
    """

    def __init__(
        self,
        service: str,
        health: Health,
        metrics: Metrics,
        *,
        host: str = LOOPBACK,
        port: int,
        hosts: Collection[str] = (),
        facts: Mapping[str, str] | None = None,
        settings: Iterable[Settings] = (),
    ) -> None:
        """Open the socket. Raises `PortInUse`.

        On a loopback address, the Host header of a request must name a loopback address or one of
        `hosts`, and requests from web pages are rejected.
        """
        metrics.gauge(
            "build_info", "What runs here; always 1.", ["component", "version"], across="max"
        ).labels(service, __version__).set(1)
        ready = metrics.gauge(
            "ready", "1 while /readyz answers 200, else 0.", ["component"], across="livemin"
        ).labels(service)
        metrics.before_scrape(lambda: ready.set(health.readiness().passed))
        self._metrics = metrics
        self._scrapers: list[Exchange] = []
        """Requests that wait for the next rendering."""
        self._rendering = False
        self._render_at = 0.0
        """Earliest time of the next rendering (loop time)."""
        self._socket = listen(
            host, port, purpose="the management port (health, metrics)", option="--management-port"
        )
        self.host = host
        self.port = port_of(self._socket)
        self._server = HttpServer(
            self._answer,
            admit=self._admit,
            limits=replace(
                LIMITS,
                connections_max=max(
                    1, min(LIMITS.connections_max, open_files() // _OPEN_FILES_SHARE)
                ),
            ),
            guard=LocalGuard(hosts, setting="HEADRACE_MANAGEMENT_HOSTS")
            if is_local_bind(host)
            else None,
        )
        measure_connections(metrics, "management", self._server)
        self._started = False
        version = {
            "service": service,
            "version": __version__,
            "python": platform.python_version(),
            **(facts or {}),
        }
        config = json.dumps(configuration(settings), indent=2, sort_keys=True).encode() + b"\n"
        self._pages: dict[bytes, Page] = {
            b"/livez": lambda exchange, query: _report(health.liveness(), exchange, query),
            b"/healthz": lambda exchange, query: _report(health.liveness(), exchange, query),
            b"/readyz": lambda exchange, query: _report(
                health.readiness(query.get("exclude", ())[:EXCLUDED_MAX]), exchange, query
            ),
            b"/startupz": lambda exchange, query: _report(health.startup(), exchange, query),
            b"/metrics": lambda exchange, _: self._scrape(exchange),
            b"/version": lambda exchange, _: exchange.respond(
                200, _JSON, json.dumps(version).encode()
            ),
            b"/configz": lambda exchange, _: exchange.respond(200, _JSON, config),
        }

    @property
    def url(self) -> str:
        """The base URL of this port."""
        return http_url(self.host, self.port)

    async def start(self) -> None:
        """Start serving."""
        await self._server.start(self._socket)
        self._started = True

    async def stop(self) -> None:
        """Close the connections and the port. Idempotent."""
        if self._started:
            await self._server.stop()
        else:
            self._socket.close()

    def _admit(self, exchange: Exchange) -> None:
        """Reject bodies without reading them: a slow body would occupy a connection that a probe
        may need.
        """
        if exchange.length and exchange.method in (b"GET", b"HEAD"):
            exchange.respond(400, _TEXT, b"requests here have no body\n")
        elif exchange.length:
            self._answer(exchange)

    def _answer(self, exchange: Exchange) -> None:
        path, _, query = exchange.target.partition(b"?")
        page = self._pages.get(path)
        if page is None:
            exchange.respond(
                404, _TEXT, b"no such page; there are " + b", ".join(self._pages) + b"\n"
            )
        elif exchange.method not in (b"GET", b"HEAD"):
            exchange.respond(405, (*_TEXT, (b"allow", b"GET, HEAD")), b"only GET and HEAD\n")
        else:
            try:
                parameters = parse_qs(
                    query.decode("latin-1"), keep_blank_values=True, max_num_fields=_PARAMETERS_MAX
                )
            except ValueError:
                exchange.respond(400, _TEXT, b"more than %d query parameters\n" % _PARAMETERS_MAX)
                return
            page(exchange, parameters)

    def _scrape(self, exchange: Exchange) -> None:
        if len(self._scrapers) >= SCRAPERS_MAX:
            exchange.respond(
                503, (*_TEXT, (b"retry-after", b"1")), b"%d scrapes wait already\n" % SCRAPERS_MAX
            )
            return
        self._scrapers.append(exchange)
        if len(self._scrapers) == 1 and not self._rendering:
            loop = asyncio.get_running_loop()
            loop.call_at(max(self._render_at, loop.time()), self._render)

    def _render(self) -> None:
        """Render one page for all waiting requests: hundreds of scrapers must not keep the process
        busy with rendering.
        """
        waiting, self._scrapers, self._rendering = self._scrapers, [], True
        loop = asyncio.get_running_loop()
        rendering: asyncio.Future[Pages]
        try:
            # Flush here, because only the loop may access the counts. Render on a thread, so that
            # events do not wait for a scrape.
            self._metrics.flush()
            formats = {_wants_openmetrics(exchange) for exchange in waiting}
            rendering = loop.run_in_executor(None, self._render_pages, formats)
        except Exception as error:  # Waiting requests must be answered, whatever the error is.
            rendering = loop.create_future()
            rendering.set_exception(error)
        rendering.add_done_callback(partial(self._rendered, waiting, loop.time()))

    def _render_pages(self, formats: Collection[bool]) -> "Pages":
        return {each: self._metrics.render(openmetrics=each) for each in formats}

    def _rendered(
        self, waiting: Sequence[Exchange], began: float, rendering: "asyncio.Future[Pages]"
    ) -> None:
        for exchange in waiting:
            _send_page(exchange, rendering)
        self._rendering = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._render_at = now + (now - began)  # rendering takes at most half of the time
        if self._scrapers:
            loop.call_at(self._render_at, self._render)


def _wants_openmetrics(exchange: Exchange) -> bool:
    """Several fields Accept are one, separated by commas (RFC 9110, 5.3)."""
    return wants_openmetrics(
        b",".join(value for name, value in exchange.headers if name == b"accept")
    )


def _send_page(exchange: Exchange, rendering: "asyncio.Future[Pages]") -> None:
    if rendering.cancelled() or (error := rendering.exception()) is not None:
        reason = (
            "the process is ending"
            if rendering.cancelled()
            else f"the metrics cannot be written: {type(error).__name__}"
        )
        exchange.respond(500, _TEXT, reason.encode() + b"\n")
        return
    page, content_type = rendering.result()[_wants_openmetrics(exchange)]
    exchange.respond(200, ((b"content-type", content_type.encode()),), page)


def _report(report: HealthReport, exchange: Exchange, query: Query) -> None:
    exchange.respond(
        200 if report.passed else 503,
        _TEXT,
        report.text(verbose="verbose" in query).encode() + b"\n",
    )


def add_management(
    service: Service,
    metrics: Metrics,
    settings: ManagementSettings,
    *,
    default_port: int,
    others: Iterable[Settings],
    facts: Mapping[str, str] | None = None,
) -> ManagementPort:
    """Add the management port and the metrics flusher to `service`. Call it before adding other
    components. `others` are all other settings of the process, for /configz and the metric about
    certificates. Raises `PortInUse`.
    """
    metrics.knative_names = settings.knative_metrics
    others = tuple(others)
    measure_certificates(metrics, service.name, others)
    port = default_port if settings.port is None else settings.port
    server = ManagementPort(
        service.name,
        service.health,
        metrics,
        host=settings.host,
        port=port,
        hosts=names_of(settings.hosts),
        facts=facts,
        settings=(*others, replace(settings, port=port)),
    )
    service.add("management", server)
    service.add("metrics", MetricsFlusher(metrics))
    return server
