"""IntegrationSource `timer`."""

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.errors import LogUnavailable
from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.timer import TimerConfig, TimerSource
from headrace_sources.source import SourceFault
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


def cursor(count: int, time: float) -> str:
    """What is stored when so many events were sent, the newest at this time."""
    return json.dumps({"count": count, "time": time})


def sleeping_clock(monkeypatch: pytest.MonkeyPatch) -> MemoryClock:
    """A clock that is advanced by what sleeps."""
    clock = MemoryClock()

    async def advance(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("headrace_sources.adapters.due_time.sleep", advance)
    return clock


async def test_a_message_is_sent_again_and_again() -> None:
    """Each with an id of its own."""
    emit, context = RecordingEmit(), RecordingContext(clock=SystemClock())
    async with running(TimerSource(config(), context), emit):
        await emit.wait_for(3)
    first = emit.events[0]
    assert first.data == b"hello"
    assert first.attributes["subject"] == "timer-source"
    assert first.attributes["datacontenttype"] == "text/plain"
    assert len({each.attributes["id"] for each in emit.events}) == len(emit.events)


async def test_a_limit_holds_over_a_restart() -> None:
    """The cursor has the number of events."""
    clock = SystemClock()
    emit, context = RecordingEmit(), RecordingContext(clock=clock, cursor=cursor(3, clock.now()))
    await asyncio.wait_for(TimerSource(config(repeat_count=5), context).run(emit), 10.0)
    assert (len(emit.events), json.loads(context.cursor or "")["count"]) == (2, 5)
    await asyncio.wait_for(TimerSource(config(repeat_count=5), context).run(emit), 10.0)
    assert len(emit.events) == 2


async def test_an_event_that_is_not_delivered_is_left_behind() -> None:
    """The next one is sent, and counts. The service reports the failure until an event is taken."""
    emit, context = RecordingEmit(), RecordingContext(clock=SystemClock())
    emit.refuse = 1
    await asyncio.wait_for(TimerSource(config(repeat_count=2), context).run(emit), 10.0)
    assert (emit.attempts, len(emit.events)) == (2, 1)
    assert "DeliveryHealthy" not in context.conditions


@pytest.mark.parametrize(
    ("since", "times"),
    [
        # The newest event was sent 20 s ago: this minute has its event.
        (20.0, [40.0, 100.0]),
        # It was sent 150 s ago: this minute, which began 30 s ago, has none yet.
        (150.0, [-30.0, 30.0]),
        # It was sent by a process whose clock is ahead by 5 s.
        (-5.0, [60.0, 120.0]),
        # Or by one with a wrong clock.
        (-99_999.0, [60.0, 120.0]),
    ],
)
async def test_a_period_has_one_event(
    since: float, times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if another process takes over, or the source is started again."""
    clock = sleeping_clock(monkeypatch)
    begin = clock.now()
    emit, context = RecordingEmit(), RecordingContext(clock=clock, cursor=cursor(1, begin - since))
    source = TimerSource(config(period=60_000, repeat_count=3), context)
    await asyncio.wait_for(source.run(emit), 10.0)
    sent = [datetime.fromisoformat(str(each.attributes["time"])) for each in emit.events]
    assert [each.timestamp() - begin for each in sent] == times


async def test_an_event_that_is_sent_again_has_the_same_id() -> None:
    """A process that was killed has not saved its cursor."""
    emit = RecordingEmit()
    for _ in range(2):
        context = RecordingContext(clock=SystemClock())
        await asyncio.wait_for(TimerSource(config(repeat_count=2), context).run(emit), 10.0)
    ids = [each.attributes["id"] for each in emit.events]
    assert ids[:2] == ids[2:]


async def test_a_source_that_is_stopped_saves_its_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it has just saved one, or could not."""
    emit, context = RecordingEmit(), RecordingContext(clock=SystemClock())
    stored: list[str] = []

    async def unavailable(_: str) -> None:
        raise LogUnavailable("the log did not answer")

    async def save(cursor: str) -> None:
        stored.append(cursor)

    with monkeypatch.context() as patch:
        patch.setattr(context, "save_cursor", unavailable)
        async with running(TimerSource(config(), context), emit):
            await emit.wait_for(3)
            assert stored == []
            patch.setattr(context, "save_cursor", save)
    assert json.loads(stored[-1])["count"] == len(emit.events)


async def test_a_sink_that_is_slow_delays_the_next_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event is on its way at a time, and periods that have passed have none."""
    clock, emit = sleeping_clock(monkeypatch), RecordingEmit()
    begin = clock.now()
    emit.gate.clear()
    source = TimerSource(config(period=60_000, repeat_count=2), RecordingContext(clock=clock))
    async with running(source, emit) as task:
        await emit.wait_for_attempts(1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert emit.attempts == 1
        clock.advance(150.0)
        emit.gate.set()
        await asyncio.wait_for(asyncio.shield(task), 10.0)
    sent = [datetime.fromisoformat(str(each.attributes["time"])) for each in emit.events]
    assert [each.timestamp() - begin for each in sent] == [0.0, 120.0]


async def test_it_is_on_time() -> None:
    """Within 100 ms, on the clock of the machine, and without drifting."""
    clock, emit = SystemClock(), RecordingEmit()
    late = []
    async with running(TimerSource(config(period=300), RecordingContext(clock=clock)), emit):
        for count in range(1, 6):
            await emit.wait_for(count)
            due = datetime.fromisoformat(str(emit.events[-1].attributes["time"])).timestamp()
            late.append(clock.now() - due)
    # The median, because one of them may come while the machine does something else.
    assert -0.001 <= sorted(late)[2] < 0.1


def test_a_wrong_media_type_is_a_fault() -> None:
    """Before anything is sent."""
    with pytest.raises(SourceFault, match=r"spec\.timer\.contentType"):
        TimerSource(config(content_type="text/plain\n"), RecordingContext())


def test_a_period_is_positive() -> None:
    """It would send without a pause."""
    with pytest.raises(ValidationError, match="period"):
        config(period=0)
