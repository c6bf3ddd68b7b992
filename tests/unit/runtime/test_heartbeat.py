"""How a process detects an outage of Kafka from its reports, in virtual time."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.routing import MemoryRoutingLog, MemoryRoutingReader
from headrace.domain.errors import HeadraceError, LogUnavailable, TopicMissing
from headrace.domain.ports import Instance
from headrace.runtime.heartbeat import UNACKNOWLEDGED_SECONDS, Heartbeat
from tests.support.wait_until import wait_until_async


class Reports:
    """Accepts reports or refuses them; implements `headrace.domain.ports.Instances`."""

    def __init__(self) -> None:
        self.refusal: HeadraceError | None = None
        self.asked = 0

    async def report(self, instance: Instance) -> None:
        """As the port."""
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal

    async def deregister(self, instance_id: str) -> None:
        """As the port."""

    def live(self) -> Sequence[Instance]:
        """As the port."""
        return []


async def test_without_a_stored_report_it_says_since_when_and_with_the_next_one_no_more() -> None:
    """A missing topic counts as an answer too. A short time without an answer is not an outage."""
    clock, reports = MemoryClock(), Reports()
    presence = Heartbeat(
        "ingress",
        instance_id="i",
        instances=reports,
        routes=MemoryRoutingReader(MemoryRoutingLog()),
        clock=clock,
    )
    assert presence.unacknowledged_since() is None

    async def reported() -> None:
        """Make one more report immediately."""
        asked = reports.asked
        presence._on_change([])
        await wait_until_async(lambda: reports.asked > asked, what="a report")
        await asyncio.sleep(0)

    await presence.start()
    await reported()
    reports.refusal = LogUnavailable("gone")
    clock.advance(UNACKNOWLEDGED_SECONDS - 0.1)
    await reported()
    assert presence.unacknowledged_since() is None
    clock.advance(0.2)
    assert "since" in (presence.unacknowledged_since() or "")
    reports.refusal = TopicMissing("headrace.instances")
    await reported()
    assert presence.unacknowledged_since() is None
    clock.advance(UNACKNOWLEDGED_SECONDS)
    assert presence.unacknowledged_since() is not None
    reports.refusal = None
    await reported()
    assert presence.unacknowledged_since() is None
    clock.advance(UNACKNOWLEDGED_SECONDS)
    await presence.stop()
    assert presence.unacknowledged_since() is None


@pytest.mark.parametrize(
    ("refusal", "next_step"),
    [
        (LogUnavailable("gone"), "check Kafka"),
        (TopicMissing("headrace.instances"), "none if a controller runs"),
    ],
)
async def test_the_line_about_a_failure_has_the_service_and_the_next_step(
    refusal: HeadraceError, next_step: str
) -> None:
    """Under `headrace up` the services share one log."""
    reports = Reports()
    reports.refusal = refusal
    presence = Heartbeat(
        "ingress",
        instance_id="i",
        instances=reports,
        routes=MemoryRoutingReader(MemoryRoutingLog()),
        clock=MemoryClock(),
    )
    with capture_logs() as logs:
        await presence.start()
        await wait_until_async(lambda: logs, what="a line")
        await presence.stop()
    assert ("heartbeat_failed", "ingress") == (logs[0]["event"], logs[0]["service"])
    assert logs[0]["next_step"].startswith(next_step)
