"""PingSource: what fires when, what was missed, and what another process continues with."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.errors import LogUnavailable
from headrace.runtime.clock import SystemClock
from headrace_sources.adapters import due_time
from headrace_sources.adapters.ping import MISSED_MAX, PingConfig, PingSource
from headrace_sources.source import SourceFault
from tests.support.sources import RecordingContext, RecordingEmit, running

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


def config(**fields: Any) -> PingConfig:
    """Every minute."""
    return PingConfig(type="dev.knative.sources.ping", source="/here", **fields)


def cursor_at(time: float, schedule: str = "* * * * * UTC") -> str:
    """What is stored when all times up to this one were fired."""
    return json.dumps({"time": time, "schedule": schedule})


class Timer:
    """A source whose sleeping is done by the test: `advance` moves the clock."""

    def __init__(
        self, settings: PingConfig, *, cursor: str | None = None, now: float = NOON
    ) -> None:
        self.clock = MemoryClock(now)
        self.context = RecordingContext(clock=self.clock, cursor=cursor)
        self.emit = RecordingEmit()
        self.source = PingSource(settings, self.context)
        self._sleeping = asyncio.Event()
        self._wake = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Instead of `asyncio.sleep`."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self._sleeping.set()
            await self._wake.wait()
            self._wake.clear()

    async def advance(self, seconds: float) -> None:
        """Move the clock, and wait until the source sleeps again."""
        await self.settle()
        self._sleeping.clear()
        self.clock.advance(seconds)
        self._wake.set()
        await self.settle()

    async def settle(self) -> None:
        """Wait until the source sleeps, and its events have ended."""
        await asyncio.wait_for(self._sleeping.wait(), 5.0)
        for _ in range(10):
            await asyncio.sleep(0)

    def minutes(self) -> list[str]:
        """The times of the events."""
        return [str(each.attributes["time"])[11:19] for each in self.emit.events]


@contextmanager
def sleeping(timer: Timer) -> Iterator[None]:
    """The source sleeps by the timer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due_time, "sleep", timer.sleep)
        yield


@asynccontextmanager
async def timed(
    settings: PingConfig, *, cursor: float | None = None, now: float = NOON
) -> AsyncIterator[Timer]:
    """A running source, at noon."""
    timer = Timer(settings, cursor=None if cursor is None else cursor_at(cursor), now=now)
    with sleeping(timer):
        async with running(timer.source, timer.emit):
            await timer.settle()
            yield timer


async def test_an_event_comes_at_each_time() -> None:
    """With the data, the scheduled time, and an id of its own."""
    async with timed(config(data='{"a": 1}', content_type="application/json")) as timer:
        assert timer.emit.events == []
        for _ in range(2):
            await timer.advance(60.0)
        assert timer.minutes() == ["12:01:00", "12:02:00"]
        first, second = timer.emit.events
        assert json.loads(first.data or b"") == {"a": 1}
        assert first.attributes["datacontenttype"] == "application/json"
        assert first.attributes["source"] == "/here"
        assert first.attributes["id"] != second.attributes["id"]


async def test_binary_data_and_no_data_are_sent_as_they_are() -> None:
    """Without a media type if there is none."""
    async with timed(config(data_base64="AAH/")) as timer:
        await timer.advance(60.0)
        assert timer.emit.events[0].data == b"\x00\x01\xff"
        assert "datacontenttype" not in timer.emit.events[0].attributes
    async with timed(config()) as timer:
        await timer.advance(60.0)
        assert timer.emit.events[0].data is None


async def test_the_next_process_does_not_fire_what_was_fired() -> None:
    """And an event that is sent again has the same id."""
    async with timed(config()) as timer:
        await timer.advance(60.0)
        cursor, sent = timer.context.cursor, timer.emit.events
    assert cursor == cursor_at(NOON + 60.0)
    async with timed(config(missed_runs="all"), cursor=NOON) as timer:
        assert timer.emit.events == []
    async with timed(config(missed_runs="all"), cursor=NOON - 60.0) as timer:
        assert timer.minutes() == ["12:00:00"]
        await timer.advance(60.0)
        assert timer.emit.events[-1].attributes["id"] == sent[0].attributes["id"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("skip", ["12:00:00"]),
        ("once", ["11:59:00", "12:00:00"]),
        ("all", ["11:57:00", "11:58:00", "11:59:00", "12:00:00"]),
    ],
)
async def test_missed_times_are_fired_by_the_policy(policy: str, expected: list[str]) -> None:
    """What is due just now is fired in any case."""
    async with timed(config(missed_runs=policy), cursor=NOON - 240.0) as timer:
        assert timer.minutes() == expected
        await timer.advance(60.0)
        assert timer.minutes()[len(expected) :] == ["12:01:00"]


async def test_missed_times_have_a_limit() -> None:
    """The newest ones are fired."""
    async with timed(config(missed_runs="all"), cursor=NOON - 7 * 24 * 3600) as timer:
        for _ in range(20):
            await timer.settle()
        assert len(timer.emit.events) == MISSED_MAX
        assert timer.minutes()[-1] == "12:00:00"


async def test_a_slow_sink_does_not_delay_the_next_time() -> None:
    """The cursor stays before what has not been delivered."""
    async with timed(config()) as timer:
        timer.emit.gate.clear()
        await timer.advance(60.0)
        await timer.advance(60.0)
        assert timer.emit.attempts == 2
        assert timer.context.cursor == cursor_at(NOON)
        timer.emit.gate.set()
        await timer.emit.wait_for(2)
        await timer.settle()
        assert timer.context.cursor == cursor_at(NOON + 120.0)


async def test_an_event_that_is_not_delivered_is_left_behind() -> None:
    """The next time comes."""
    async with timed(config()) as timer:
        timer.emit.refuse = 1
        await timer.advance(60.0)
        await timer.advance(60.0)
        assert timer.minutes() == ["12:02:00"]
        assert timer.context.cursor == cursor_at(NOON + 120.0)


async def test_a_clock_that_is_set_forward_fires_once() -> None:
    """The times in between were missed."""
    async with timed(config()) as timer:
        await timer.advance(3600.0)
        assert timer.minutes() == ["13:00:00"]


async def test_what_is_missed_before_the_first_firing_is_known() -> None:
    """The time at which the source began is stored."""
    async with timed(config(schedule="0 * * * *", missed_runs="once")) as timer:
        cursor = timer.context.cursor
    assert cursor == cursor_at(NOON, "0 * * * * UTC")
    timer = Timer(config(schedule="0 * * * *", missed_runs="once"), cursor=cursor, now=NOON + 7000)
    with sleeping(timer):
        async with running(timer.source, timer.emit):
            await timer.settle()
    assert timer.minutes() == ["13:00:00"]


async def test_times_of_another_schedule_were_not_missed() -> None:
    """Nor those of another time zone: it begins when the spec was changed."""
    for fields in ({"schedule": "*/2 * * * *"}, {"timezone": "Europe/Lisbon"}):
        async with timed(config(missed_runs="all", **fields), cursor=NOON - 600.0) as timer:
            assert timer.emit.events == []
            await timer.advance(120.0)
            assert timer.minutes()[-1] == "12:02:00"


async def test_a_clock_that_is_behind_fires_nothing_again() -> None:
    """The process before had fired 12:02; the clocks of two machines differ."""
    async with timed(config(), cursor=NOON + 120.0) as timer:
        for _ in range(3):
            await timer.advance(60.0)
        assert timer.minutes() == ["12:03:00"]


async def test_a_cursor_of_a_wrong_clock_does_not_stop_the_source() -> None:
    """It is a year ahead."""
    async with timed(config(), cursor=NOON + 365 * 24 * 3600) as timer:
        await timer.advance(60.0)
        assert timer.minutes() == ["12:01:00"]


async def test_a_cursor_that_is_not_saved_stops_nothing() -> None:
    """The next one is."""
    async with timed(config()) as timer:

        async def unavailable(_: str) -> None:
            raise LogUnavailable("the log did not answer")

        save = timer.context.save_cursor
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timer.context, "save_cursor", unavailable)
            await timer.advance(60.0)
        assert timer.context.save_cursor == save
        await timer.advance(60.0)
        assert timer.minutes() == ["12:01:00", "12:02:00"]
        assert timer.context.cursor == cursor_at(NOON + 120.0)


@pytest.mark.parametrize(
    ("fields", "begin", "expected"),
    [
        ({"schedule": "45 1 * * *"}, "2026-10-24T23:50Z", ["00:45:00"]),
        ({"schedule": "30 45 1 * * *"}, "2026-10-24T23:50Z", ["00:45:30"]),
        ({"schedule": "0,45 1 * * *"}, "2026-03-29T00:50Z", ["01:00:00"]),
        ({"schedule": "30 * * * *"}, "2026-10-25T00:00Z", ["00:30:00", "01:30:00", "02:30:00"]),
    ],
)
async def test_a_change_of_daylight_saving_time_passes(
    fields: dict[str, str], begin: str, expected: list[str]
) -> None:
    """Minute by minute through the night in Lisbon, where 01:45 exists twice, or does not."""
    now = datetime.fromisoformat(begin).timestamp()
    async with timed(
        config(timezone="Europe/Lisbon", missed_runs="all", **fields), now=now
    ) as timer:
        for _ in range(340):
            await timer.advance(30.0)
        assert timer.minutes() == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "x"},
        {"timezone": "Nowhere"},
        {"data_base64": "?"},
        {"content_type": "text/plain\n"},
    ],
)
def test_what_is_wrong_is_a_fault(fields: dict[str, str]) -> None:
    """Before anything is fired."""
    with pytest.raises(SourceFault, match=r"spec\."):
        PingSource(config(**fields), RecordingContext())


async def test_it_is_on_time() -> None:
    """Within 100 ms, on the clock of the machine."""
    clock, emit = SystemClock(), RecordingEmit()
    source = PingSource(config(schedule="* * * * * *"), RecordingContext(clock=clock))
    late = []
    async with running(source, emit):
        for count in range(1, 4):
            await emit.wait_for(count)
            due = datetime.fromisoformat(str(emit.events[-1].attributes["time"])).timestamp()
            late.append(clock.now() - due)
    # The median, because one of them may come while the machine does something else.
    assert 0.0 <= sorted(late)[1] < 0.1
