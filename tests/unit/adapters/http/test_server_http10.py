"""HTTP/1.0, as probes of load balancers speak it, on ingress and management port."""

import pytest

from headrace.runtime.health import Health
from headrace.runtime.management import ManagementPort
from headrace.runtime.metrics import Metrics
from tests.unit.ingress.harness import accept, connect, ingress_harness, request, server_of, talk

OLD = request().replace(b" HTTP/1.1", b" HTTP/1.0")


async def test_a_probe_without_a_host_is_served_by_the_management_port() -> None:
    """`GET /livez HTTP/1.0` and nothing else (RFC 9112, 3.2 asks for Host in HTTP/1.1 only); the
    connection ends.
    """
    port = ManagementPort("ingress", Health(), Metrics(process=False), port=0)
    await port.start()
    try:
        answer = await talk(port.port, b"GET /livez HTTP/1.0\r\n\r\n", answers=2)
    finally:
        await port.stop()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert b"content-length: 3" in answer


async def test_an_event_without_a_host_is_taken() -> None:
    """By its path."""
    async with ingress_harness() as running:
        answer = await talk(
            running.ingress.port, request(host=None).replace(b" HTTP/1.1", b" HTTP/1.0"), answers=2
        )
    assert answer.startswith(b"HTTP/1.1 202 ")


async def test_an_old_client_that_asks_keeps_its_connection() -> None:
    """The response says so, because the client would wait for the end otherwise."""
    connection, transport = connect(server_of(accept))
    raw = OLD.replace(b"Content-Length", b"Connection: keep-alive\r\nContent-Length")
    connection.data_received(raw)
    connection.data_received(raw)
    assert [202, 202] == transport.statuses
    assert 2 == transport.written.count(b"connection: keep-alive")
    assert not transport.ended
    connection.data_received(request())
    assert 2 == transport.written.count(b"connection: keep-alive")


async def test_an_old_client_is_not_asked_to_continue() -> None:
    """HTTP/1.0 knows no interim answers (RFC 9110, 10.1.1), nor expectations."""
    connection, transport = connect(server_of(accept))
    raw = OLD.replace(b"Content-Length", b"Expect: 100-continue\r\nContent-Length")
    connection.data_received(raw[:-2])
    assert [] == transport.statuses
    connection.data_received(raw[-2:])
    assert [202] == transport.statuses


@pytest.mark.parametrize(
    "host", [b"a", b"a.", b"a:80", b"[::1]:80", b"127.0.0.1", b"a-b_c.example", b"%41"]
)
async def test_good_hosts_are_taken(host: bytes) -> None:
    """With ports, as addresses, and as names that only DNS's underscore makes odd."""
    connection, transport = connect(server_of(accept))
    connection.data_received(request(host=host))
    assert [202] == transport.statuses
