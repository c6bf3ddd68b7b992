"""The management port over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import urllib3

from headrace import __version__
from headrace.adapters.http.server import Limits
from headrace.runtime.health import Health
from headrace.runtime.management import ManagementPort
from headrace.runtime.metrics import Metrics


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
    """Alive from the start, ready when started, not ready when draining."""
    assert (200, "ok\n") == await _get(server, "/livez")
    assert (200, "ok\n") == await _get(server, "/healthz")
    assert 503 == (await _get(server, "/readyz"))[0]
    health.started()
    assert (200, "ok\n") == await _get(server, "/readyz")
    assert (200, "[+]started ok\n[+]shutdown ok\nok\n") == await _get(server, "/readyz?verbose")
    health.drain("SIGTERM")
    assert (503, "[-]shutdown failed: SIGTERM\ncheck failed\n") == await _get(server, "/readyz")
    assert 200 == (await _get(server, "/readyz?exclude=shutdown"))[0]


async def test_metrics_and_version_are_there(server: ManagementPort) -> None:
    """A scrape sees what was counted."""
    status, page = await _get(server, "/metrics")
    assert 200 == status
    assert "headrace_ingress_events_total 2.0" in page
    assert f'headrace_build_info{{component="ingress",version="{__version__}"}} 1.0' in page
    assert __version__ in (await _get(server, "/version"))[1]


async def test_what_is_not_there_or_not_allowed_is_told(server: ManagementPort) -> None:
    """The pages that are there, the methods, and how many parameters."""
    assert (404, "no such page; there are /livez, /healthz, /readyz, /metrics, /version\n") == await _get(server, "/metric")
    assert (405, "only GET and HEAD\n") == await _get(server, "/metrics", "POST")
    assert (200, "") == await _get(server, "/livez", "HEAD")
    assert (400, "more than 64 query parameters\n") == await _get(server, "/readyz?" + "&".join(["exclude=x"] * 65))


async def test_metrics_that_cannot_be_written_are_an_error(server: ManagementPort, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a connection that hangs."""

    def fail() -> tuple[bytes, str]:
        raise RuntimeError("a value that is no number")

    monkeypatch.setattr(server._metrics, "render", fail)
    assert (500, "the metrics cannot be written: RuntimeError\n") == await _get(server, "/metrics")


async def test_a_client_that_sends_half_a_request_is_let_go(server: ManagementPort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps a place at this port without asking for something."""
    monkeypatch.setattr(server._server, "limits", Limits(head_seconds=0.05))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost:")
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()
