"""Whether consumers can read, from lines of Camel's log."""

import asyncio

import pytest

from headrace_sources.adapters.camel.health import ConsumerHealth
from tests.support.sources import RecordingContext

FAILED = "WARN RemoteFileConsumer - Cannot connect/login to: ftp://u@host:21. Will skip this poll."


@pytest.mark.parametrize(
    "line",
    [
        "INFO RemoteFileConsumer - connected",
        "WARN TimerConsumer - Error processing exchange. Exchange[1]",
        "WARN HttpProducer - slow",
        "anything",
    ],
)
async def test_other_lines_change_nothing(line: str) -> None:
    """Exchanges that failed are shown as events that were not delivered."""
    context = RecordingContext()
    health = ConsumerHealth(context)
    health.started()
    health.read_line(line)
    assert context.conditions["Deployed"] == (True, "", "")


async def test_a_warning_of_a_consumer_is_shown_until_an_event_arrives() -> None:
    """With its text."""
    context = RecordingContext()
    health = ConsumerHealth(context)
    health.read_line(FAILED)
    health.started()
    status, reason, message = context.conditions["Deployed"]
    assert (status, reason) == (False, "ConsumerFailed")
    assert "Cannot connect/login to: ftp://u@host:21" in message
    health.works()
    assert context.conditions["Deployed"] == (True, "", "")


async def test_a_warning_is_shown_until_there_is_none_for_some_time() -> None:
    """After the source has ended, nothing is reported."""
    context = RecordingContext()
    health = ConsumerHealth(context, quiet_seconds=0.01)
    health.read_line(FAILED)
    async with asyncio.timeout(5):
        while context.conditions["Deployed"][0] is not True:
            await asyncio.sleep(0.005)
    health.read_line(FAILED)
    health.close()
    await asyncio.sleep(0.05)
    assert context.conditions["Deployed"][0] is False
