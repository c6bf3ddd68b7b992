"""The management port over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import urllib3

from headrace import __version__
from headrace.runtime.health import Health
from headrace.runtime.management import HttpServer, management_server
from headrace.runtime.metrics import Metrics


@pytest.fixture
def health() -> Health:
    """Checks of the process under test."""
    return Health()


@pytest.fixture
async def server(health: Health) -> AsyncIterator[HttpServer]:
    """A management port on any free port."""
    metrics = Metrics(process=False)
    metrics.counter("ingress_events", "Events.").labels().value += 2
    running = management_server("ingress", health, metrics, port=0)
    await running.start()
    yield running
    await running.stop()


async def _get(server: HttpServer, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        with urllib3.PoolManager() as pool:
            response = pool.request("GET", server.url + path, timeout=5.0, retries=False)
            return response.status, response.data.decode()

    return await asyncio.to_thread(get)


async def test_probes_follow_the_checks(server: HttpServer, health: Health) -> None:
    """Alive from the start, ready when started, not ready when draining."""
    assert (200, "ok\n") == await _get(server, "/livez")
    assert (200, "ok\n") == await _get(server, "/healthz")
    assert 503 == (await _get(server, "/readyz"))[0]
    health.started()
    assert (200, "ok\n") == await _get(server, "/readyz")
    assert (200, "[+]started ok\n[+]draining ok\nok\n") == await _get(server, "/readyz?verbose")
    health.drain("SIGTERM")
    assert (503, "[-]draining failed: SIGTERM\ncheck failed\n") == await _get(server, "/readyz")
    assert 200 == (await _get(server, "/readyz?exclude=draining"))[0]


async def test_metrics_and_version_are_there(server: HttpServer) -> None:
    """A scrape sees what was counted."""
    status, page = await _get(server, "/metrics")
    assert 200 == status
    assert "headrace_ingress_events_total 2.0" in page
    assert f'headrace_build_info{{component="ingress",version="{__version__}"}} 1.0' in page
    assert __version__ in (await _get(server, "/version"))[1]
