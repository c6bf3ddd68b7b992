"""Web pages do not reach the ports of this machine: Host after a rebound DNS name, Origin and
Sec-Fetch-Site.
"""

import io
import json
from collections.abc import Sequence

import pytest
from rich.console import Console

from headrace.runtime.health import Health
from headrace.runtime.management import ManagementPort
from headrace.runtime.metrics import Metrics
from headrace_cli.event_viewer import EventViewer
from tests.unit.ingress.harness import ATTRIBUTES, TOPIC, ingress_harness, request, talk

Field = tuple[bytes, bytes]
PAGES: Sequence[tuple[bytes, Sequence[Field]]] = (
    (b"evil.example:8080", ()),
    (b"127.0.0.1.evil.example", ()),
    (b"127.0.0.1", ((b"Origin", b"https://evil.example"),)),
    (b"127.0.0.1", ((b"Origin", b"null"),)),
    (b"127.0.0.1", ((b"Sec-Fetch-Site", b"cross-site"),)),
    (b"localhost", ((b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"navigate"))),
)
PROGRAMS: Sequence[tuple[bytes, Sequence[Field]]] = (
    (b"127.0.0.1", ()),
    (b"127.0.0.2:8080", ()),
    (b"[::1]:8080", ()),
    (b"localhost:8080", ((b"Origin", b"http://localhost:3000"), (b"Sec-Fetch-Site", b"same-site"))),
    (b"mine.internal", ()),
    (b"127.0.0.1", ((b"Sec-Fetch-Site", b"none"),)),
)


def status(answer: bytes) -> int:
    """Of an answer."""
    return int(answer[9:12])


@pytest.mark.parametrize(("host", "fields"), PAGES)
async def test_the_ingress_refuses_web_pages(host: bytes, fields: Sequence[Field]) -> None:
    """Nothing is stored, and the answer says how to allow a name."""
    async with ingress_harness(hosts="mine.internal") as running:
        answer = await talk(running.ingress.port, request(host=host, fields=(*ATTRIBUTES, *fields)))
        assert 403 == status(answer)
        document = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert "HEADRACE_INGRESS_HOSTS" in document["detail"]
        assert "urn:headrace:problem:forbidden" == document["type"]
        assert [[]] == running.log.topics[TOPIC]
        assert 403 == status(
            await talk(
                running.ingress.port, request(b"", method=b"OPTIONS", host=host, fields=fields)
            )
        )
        assert 2 == running.metric("headrace_ingress_refused_total", reason="forbidden")


@pytest.mark.parametrize(("host", "fields"), PROGRAMS)
async def test_the_ingress_takes_events_of_programs(host: bytes, fields: Sequence[Field]) -> None:
    """Under each name of a loopback address, and those of the settings."""
    async with ingress_harness(hosts="Mine.Internal., other") as running:
        assert 202 == status(
            await talk(running.ingress.port, request(host=host, fields=(*ATTRIBUTES, *fields)))
        )


async def test_hosts_of_the_routing_table_are_allowed() -> None:
    """A Channel is addressed by its Host; also one that the table has only after it was read to its
    end.
    """
    name = b"orders-kn-channel.shop.svc.cluster.local"
    async with ingress_harness(hosts="") as running:
        running.add("channel", hosts=(name.decode(),))
        assert 202 == status(await talk(running.ingress.port, request(host=name, target=b"/")))
        assert 202 == status(
            await talk(running.ingress.port, request(host=name + b":80", target=b"/shop/orders"))
        )
        assert 403 == status(
            await talk(
                running.ingress.port, request(host=b"other-kn-channel.shop.svc", target=b"/")
            )
        )


async def test_beyond_loopback_every_host_is_taken() -> None:
    """There it is the names of the network that lead here."""
    async with ingress_harness(hosts="", host="0.0.0.0") as running:
        assert 202 == status(await talk(running.ingress.port, request(host=b"events.example.com")))


@pytest.mark.parametrize(
    ("host", "fields", "expected"),
    [*((*each, 403) for each in PAGES), *((*each, 200) for each in PROGRAMS)],
)
async def test_the_management_port_judges_the_same(
    host: bytes, fields: Sequence[Field], expected: int
) -> None:
    """GET too: pages must not read metrics."""
    port = ManagementPort(
        "ingress", Health(), Metrics(process=False), port=0, hosts={"mine.internal"}
    )
    await port.start()
    try:
        answer = await talk(
            port.port, request(b"", method=b"GET", target=b"/metrics", host=host, fields=fields)
        )
        again = await talk(
            port.port, request(b"", method=b"GET", target=b"/livez", host=host, fields=fields)
        )
    finally:
        await port.stop()
    assert (expected, expected) == (status(answer), status(again))
    assert (b"HEADRACE_MANAGEMENT_HOSTS" in answer) is (expected == 403)


@pytest.mark.parametrize(
    ("host", "fields", "expected"),
    [*((*each, 403) for each in PAGES), *((*each, 200) for each in PROGRAMS)],
)
async def test_the_event_viewer_judges_the_same(
    host: bytes, fields: Sequence[Field], expected: int
) -> None:
    """A page must not print on a terminal."""
    printed = io.StringIO()
    viewer = EventViewer(Console(file=printed), port=0, hosts={"mine.internal"})
    await viewer.start()
    try:
        answer = await talk(viewer.port, request(host=host, fields=(*ATTRIBUTES, *fields)))
    finally:
        await viewer.stop()
    assert expected == status(answer)
    assert ("order.placed" in printed.getvalue()) is (expected == 200)
