"""Lines about failed deliveries."""

from structlog.testing import capture_logs

from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace.domain.record import Record
from tests.support.event_builders import record_headers
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import CHANNEL, SUBSCRIBER, dispatcher_harness

SENDER = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_lines_name_event_attempt_and_trace_and_are_limited() -> None:
    """One of a kind in ten seconds; the next one has the number of those in between."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(delivery=DeliveryPolicy(retry=1, delay_seconds=0.001))
        harness.sender.script(SUBSCRIBER, *[Outcome(status=500, body=b"secret")] * 8)
        with capture_logs() as logs:
            for number in range(3):
                headers = record_headers(("traceparent", SENDER), id=b"e%d" % number)
                await harness.store(CHANNEL, Record(None, b"payload", headers))
                await wait_until_async(
                    lambda number=number: len(harness.records("group.dead")) == number + 1,  # type: ignore[misc]
                    what="a dead letter",
                )
            harness.clock.ahead += 11.0
            await harness.publish("late")
            await wait_until_async(
                lambda: len(harness.records("group.dead")) == 4, what="another dead letter"
            )
        failed = [each for each in logs if each["event"] == "delivery_failed"]
        dead = [each for each in logs if each["event"] == "event_dead_lettered"]
        first, later = failed
        assert ("default", "small", "e0", 1, SUBSCRIBER, "status 500") == tuple(
            first[name] for name in ("namespace", "name", "event_id", "attempt", "url", "error")
        )
        assert "4bf92f3577b34da6a3ce929d0e0e4736" == first["trace_id"]
        assert "suppressed" not in first
        assert ("late", 2) == (later["event_id"], later["suppressed"])
        assert ("e0", 2, "exhausted") == tuple(
            dead[0][name] for name in ("event_id", "attempt", "reason")
        )
        assert 2 == len(dead)
        assert "secret" not in str(logs)
        assert "payload" not in str(logs)
        assert not worker.health.stuck
