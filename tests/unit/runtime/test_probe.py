"""The probe that containers run."""

import asyncio

import pytest

from headrace.runtime.health import Health
from headrace.runtime.management import ManagementPort
from headrace.runtime.metrics import Metrics
from headrace.runtime.probe import PORT_VARIABLE, main, probe


async def test_it_says_what_the_page_says() -> None:
    """It reports not ready with the reason, then ready."""
    health = Health()
    server = ManagementPort("ingress", health, Metrics(process=False), port=0)
    await server.start()
    try:
        url = f"{server.url}/readyz?verbose"
        healthy, text = await asyncio.to_thread(probe, url)
        assert not healthy
        assert "[-]started failed: still starting" in text
        health.started()
        assert (True, "[+]started ok\n[+]shutdown ok\nok") == await asyncio.to_thread(probe, url)
        assert 0 == await asyncio.to_thread(main, [url])
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "https://127.0.0.1/",
        "nonsense",
        "http://[",
        "http://127.0.0.1:99999/",
    ],
)
def test_an_address_that_does_not_answer_is_not_healthy(url: str) -> None:
    """This holds for any kind of failure."""
    assert 1 == main([url])


def test_it_wants_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other number of arguments is a mistake in the compose file."""
    monkeypatch.delenv(PORT_VARIABLE, raising=False)
    assert 2 == main([])
    assert 2 == main(["http://127.0.0.1:1/", "http://127.0.0.1:1/"])


async def test_its_default_is_the_management_port_of_this_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The images set the variable that the service reads."""
    health = Health()
    server = ManagementPort("ingress", health, Metrics(process=False), port=0)
    await server.start()
    try:
        monkeypatch.setenv(PORT_VARIABLE, server.url.rpartition(":")[2])
        assert 1 == await asyncio.to_thread(main, [])
        health.started()
        assert 0 == await asyncio.to_thread(main, [])
    finally:
        await server.stop()
