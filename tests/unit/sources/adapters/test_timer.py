"""IntegrationSource `timer`."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_sources.adapters.timer import TimerConfig, TimerSource
from tests.support.sources import RecordingContext, RecordingEmit, running


def config(**fields: Any) -> TimerConfig:
    """Fast."""
    return TimerConfig(
        type="dev.knative.eventing.timer",
        source="dev.knative.eventing.timer-source",
        subject="timer-source",
        message="hello",
        **{"period": 1, **fields},
    )


async def test_a_message_is_sent_again_and_again() -> None:
    """Each with an id of its own."""
    emit, context = RecordingEmit(), RecordingContext()
    async with running(TimerSource(config(), context), emit):
        await emit.wait_for(3)
    first = emit.events[0]
    assert first.data == b"hello"
    assert first.attributes["subject"] == "timer-source"
    assert first.attributes["datacontenttype"] == "text/plain"
    assert len({each.attributes["id"] for each in emit.events}) == len(emit.events)


async def test_a_limit_holds_over_a_restart() -> None:
    """The cursor has the number of events."""
    emit, context = RecordingEmit(), RecordingContext(cursor="3")
    await asyncio.wait_for(TimerSource(config(repeat_count=5), context).run(emit), 10.0)
    assert (len(emit.events), context.cursor) == (2, "5")
    await asyncio.wait_for(TimerSource(config(repeat_count=5), context).run(emit), 10.0)
    assert len(emit.events) == 2


async def test_an_event_that_is_not_delivered_is_reported() -> None:
    """The next one is sent."""
    emit, context = RecordingEmit(), RecordingContext()
    emit.refuse = 1
    await asyncio.wait_for(TimerSource(config(repeat_count=2), context).run(emit), 10.0)
    assert len(emit.events) == 1
    assert context.conditions["DeliveryHealthy"][:2] == (False, "NotDelivered")


def test_a_period_is_positive() -> None:
    """It would send without a pause."""
    with pytest.raises(ValidationError, match="period"):
        config(period=0)
