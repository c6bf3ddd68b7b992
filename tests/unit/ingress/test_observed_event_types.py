"""The types of accepted events are remembered if the routing record requests it, and are part of
the ingress's reports.
"""

import asyncio
import json

from headrace.domain.errors import LogUnavailable
from headrace.domain.observed_event_types import ObservedEventType
from tests.unit.ingress.harness import ATTRIBUTES, IngressHarness, ingress_harness, request, talk

ORDER = ObservedEventType("typed", "order.placed", "/shops/1", "", "1.0")
TARGET = b"/shop/typed"


async def post(running: IngressHarness, raw: bytes) -> int:
    """Send a request; return the status of the response."""
    return int((await talk(running.ingress.port, raw))[9:12])


def observed_types(running: IngressHarness) -> tuple[ObservedEventType, ...]:
    """Return what would be reported now."""
    return running.ingress._receiver.observed_types.next_batch()


async def test_types_are_remembered_where_that_is_asked_for() -> None:
    """Each type is remembered once, for every form of request. For other addressables no type is
    remembered.
    """
    async with ingress_harness() as running:
        running.add("typed", event_types=True)
        assert 202 == await post(running, request())
        assert () == observed_types(running)
        for _ in range(3):
            assert 202 == await post(running, request(target=TARGET))
        assert (ORDER,) == observed_types(running)
        event = {
            "specversion": "1.0",
            "id": "1",
            "source": "/s",
            "type": "structured",
            "dataschema": "http://schema/",
        }
        structured = request(
            json.dumps(event).encode(),
            target=TARGET,
            fields=((b"Content-Type", b"application/cloudevents+json"),),
        )
        assert 202 == await post(running, structured)
        batch = json.dumps([{**event, "type": f"batch.{number}"} for number in range(2)]).encode()
        assert 202 == await post(
            running,
            request(
                batch,
                target=TARGET,
                fields=((b"Content-Type", b"application/cloudevents-batch+json"),),
            ),
        )
        assert ["order.placed", "structured", "batch.0", "batch.1"] == [
            each.type for each in observed_types(running)
        ]
        assert {"http://schema/"} == {each.schema for each in observed_types(running)[1:]}


async def test_what_is_not_accepted_is_not_remembered() -> None:
    """The type of an invalid event or of an event that was not stored is not remembered."""
    async with ingress_harness() as running:
        running.add("typed", event_types=True)
        assert 400 == await post(running, request(target=TARGET, fields=ATTRIBUTES[:2]))
        running.log.fail(LogUnavailable("down"))
        assert 503 == await post(running, request(target=TARGET))
        assert () == observed_types(running)


async def test_a_route_may_start_and_stop_asking_for_types() -> None:
    """The flag takes effect without a restart. When it is removed, the remembered types are
    deleted.
    """
    async with ingress_harness() as running:
        running.add("typed", event_types=False)
        assert 202 == await post(running, request(target=TARGET))
        running.add("typed", event_types=True)
        await _until_followed(running)
        assert 202 == await post(running, request(target=TARGET))
        assert (ORDER,) == observed_types(running)
        running.add("typed", event_types=False)
        await _until_followed(running)
        assert 202 == await post(running, request(target=TARGET))
        assert () == observed_types(running)


async def _until_followed(running: IngressHarness) -> None:
    assert await running.follower.refresh(1.0)
    await asyncio.sleep(0)
