"""The management port on real sockets."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator

import pytest
import urllib3

from headrace import __version__
from headrace.adapters.http.server import ServerLimits
from headrace.runtime.health import Health
from headrace.runtime.management import SCRAPERS_MAX, ManagementPort, add_management
from headrace.runtime.metrics import Metrics
from headrace.runtime.service import Service
from headrace.runtime.settings import LogLevel, LogSettings, ManagementSettings
from tests.support.wait_until import wait_until_async


@pytest.fixture
def health() -> Health:
    """Checks of the process under test."""
    return Health()


@pytest.fixture
async def server(health: Health) -> AsyncIterator[ManagementPort]:
    """A management port on any free port."""
    metrics = Metrics(process=False)
    metrics.counter("ingress_events", "Events.").labels().value += 2
    running = ManagementPort("ingress", health, metrics, port=0)
    await running.start()
    yield running
    await running.stop()


async def _get(server: ManagementPort, path: str, method: str = "GET") -> tuple[int, str]:
    def get() -> tuple[int, str]:
        with urllib3.PoolManager() as pool:
            response = pool.request(method, server.url + path, timeout=5.0, retries=False)
            return response.status, response.data.decode()

    return await asyncio.to_thread(get)


async def test_probes_follow_the_checks(server: ManagementPort, health: Health) -> None:
    """The process is alive from the start, ready when it has started, and not ready while it
    drains.
    """
    assert (200, "ok\n") == await _get(server, "/livez")
    assert (200, "ok\n") == await _get(server, "/healthz")
    assert 503 == (await _get(server, "/readyz"))[0]
    assert 503 == (await _get(server, "/startupz"))[0]
    health.started()
    assert (200, "ok\n") == await _get(server, "/startupz")
    assert (200, "ok\n") == await _get(server, "/readyz")
    assert (200, "[+]started ok\n[+]shutdown ok\nok\n") == await _get(server, "/readyz?verbose")
    health.drain("SIGTERM")
    assert (503, "[-]shutdown failed: SIGTERM\ncheck failed\n") == await _get(server, "/readyz")


async def test_readiness_is_a_metric(server: ManagementPort, health: Health) -> None:
    """A process that cannot work is not the same as one that cannot be scraped."""
    sample = 'headrace_ready{component="ingress"} '
    assert f"\n{sample}0.0\n" in (await _get(server, "/metrics"))[1]
    health.started()
    assert f"\n{sample}1.0\n" in (await _get(server, "/metrics"))[1]
    assert 200 == (await _get(server, "/readyz?exclude=shutdown"))[0]
    assert (200, "ok\n") == await _get(server, "/startupz")


async def test_the_settings_in_use_are_shown(health: Health) -> None:
    """Those of the port itself too, with the port of this service."""
    metrics, service = Metrics(process=False), Service("ingress")
    own = add_management(
        service,
        metrics,
        ManagementSettings(host="127.0.0.2"),
        default_port=0,
        others=(LogSettings(level=LogLevel.DEBUG),),
    )
    await own.start()
    try:
        status, page = await _get(own, "/configz")
    finally:
        await own.stop()
    assert 200 == status
    assert {
        "HEADRACE_LOG_FORMAT": "auto",
        "HEADRACE_LOG_LEVEL": "debug",
        "HEADRACE_MANAGEMENT_HOST": "127.0.0.2",
        "HEADRACE_MANAGEMENT_HOSTS": "",
        "HEADRACE_MANAGEMENT_KNATIVE_METRICS": False,
        "HEADRACE_MANAGEMENT_PORT": 0,
    } == json.loads(page)


async def test_metrics_and_version_are_there(server: ManagementPort) -> None:
    """A scrape shows what was counted."""
    status, page = await _get(server, "/metrics")
    assert 200 == status
    assert "headrace_ingress_events_total 2.0" in page
    assert f'headrace_build_info{{component="ingress",version="{__version__}"}} 1.0' in page
    assert __version__ in (await _get(server, "/version"))[1]


async def test_scrapers_get_the_format_that_they_ask_for(server: ManagementPort) -> None:
    """Also when they ask at the same time."""

    async def scrape(accept: str) -> tuple[str, str]:
        def get() -> tuple[str, str]:
            with urllib3.PoolManager() as pool:
                response = pool.request(
                    "GET", f"{server.url}/metrics", headers={"accept": accept}, timeout=5.0
                )
                return response.headers["content-type"], response.data.decode()

        return await asyncio.to_thread(get)

    openmetrics, text = await asyncio.gather(
        scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), scrape("*/*")
    )
    assert openmetrics[0].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics[1].endswith("# EOF\n")
    assert text[0].startswith("text/plain; version=")
    assert "# EOF" not in text[1]
    for _, page in (openmetrics, text):
        assert "headrace_ingress_events_total 2.0" in page


async def test_what_is_not_there_or_not_allowed_is_reported(server: ManagementPort) -> None:
    """The response names the existing pages, the allowed methods, or the maximum number of
    parameters.
    """
    assert (
        404,
        "no such page; there are /livez, /healthz, /readyz, /startupz, /metrics, /version,"
        " /configz\n",
    ) == await _get(server, "/metric")
    assert (405, "only GET and HEAD\n") == await _get(server, "/metrics", "POST")
    assert (200, "") == await _get(server, "/livez", "HEAD")
    assert (400, "more than 64 query parameters\n") == await _get(
        server, "/readyz?" + "&".join(["exclude=x"] * 65)
    )


async def test_metrics_that_cannot_be_written_are_an_error(
    server: ManagementPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection does not hang."""

    def fail(*, openmetrics: bool) -> tuple[bytes, str]:
        raise RuntimeError("a value that is no number")

    monkeypatch.setattr(server._metrics, "render", fail)
    assert (500, "the metrics cannot be written: RuntimeError\n") == await _get(server, "/metrics")


@pytest.fixture
def metrics() -> Metrics:
    """The metrics that a scrape shows."""
    return Metrics(process=False)


async def test_scrapes_at_the_same_time_share_a_rendering(
    health: Health, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of scrapes cost as much as two and do not block probes. Each shows what was counted
    before it was requested.
    """
    counter = metrics.counter("ingress_events", "Events.").labels()
    render, rendered, proceed = metrics.render, [0], threading.Event()

    def slow(*, openmetrics: bool) -> tuple[bytes, str]:
        rendered[0] += 1
        assert proceed.wait(10.0)
        return render(openmetrics=openmetrics)

    monkeypatch.setattr(metrics, "render", slow)
    server = ManagementPort("ingress", health, metrics, port=0)
    await server.start()
    first = asyncio.ensure_future(
        _raw(server, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    )
    await wait_until_async(lambda: rendered[0] == 1, what="the first rendering began")
    counter.value += 1
    others = [
        asyncio.ensure_future(
            _raw(server, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        )
        for _ in range(SCRAPERS_MAX)
    ]
    await wait_until_async(lambda: len(server._scrapers) == SCRAPERS_MAX, what="the others wait")
    assert (
        b" 200 "
        in (
            await _raw(
                server, b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
        )[:16]
    )
    assert (
        b" 503 "
        in (
            await _raw(
                server, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
        )[:16]
    )
    proceed.set()
    assert b" 200 " in (await first)[:16]
    for page in await asyncio.gather(*others):
        assert b"headrace_ingress_events_total 1.0" in page
    assert 2 == rendered[0]
    await server.stop()


async def test_a_client_that_sends_half_a_request_is_let_go(
    server: ManagementPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client cannot keep a connection to this port without a request."""
    monkeypatch.setattr(server._server, "limits", ServerLimits(head_seconds=0.05))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost:")
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


async def _raw(server: ManagementPort, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"405"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
    ],
)
async def test_a_body_is_not_waited_for(
    server: ManagementPort, request_: bytes, status: bytes
) -> None:
    """Otherwise a body that never arrives would keep a connection open for a minute."""
    assert (await _raw(server, request_)).startswith(b"HTTP/1.1 " + status)


def _answered(client: socket.socket) -> bool:
    """Return whether there is something to read, without reading it."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def test_two_hundred_clients_that_read_nothing_leave_probes_their_place(
    server: ManagementPort,
) -> None:
    """Each client requests pages repeatedly and reads none. /livez is still answered immediately,
    and the metrics show the reason.
    """
    clients = []
    try:
        for _ in range(200):
            client = socket.create_connection((server.host, server.port), 5.0)
            clients.append(client)
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2_000)
        await wait_until_async(
            lambda: all(_answered(client) for client in clients),
            what="all clients have been answered",
        )
        for _ in range(5):
            assert (200, "ok\n") == await _get(server, "/livez")
        page = (await _get(server, "/metrics"))[1]
        assert 'headrace_management_connections_limited_total{reason="refused"} 0.0' in page
        assert "headrace_management_connections_max 200.0" in page
        assert (
            0
            < int(
                page.partition('headrace_management_connections_limited_total{reason="evicted"} ')[
                    2
                ].partition(".")[0]
            )
            < 10
        )
    finally:
        for client in clients:
            client.close()
