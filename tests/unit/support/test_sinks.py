"""Writers and sinks together: a sink's script is what its client sees, and the record has it."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.support.event_writers import Line, Load, Writer, request_of
from tests.support.ledger import Entry, Ledger, Outcome
from tests.support.processes import Processes
from tests.support.sink_process import SinkProcess
from tests.support.sink_scripts import Mode, Script
from tests.support.sinks import TICK_SECONDS, TICKS, Sinks
from tests.support.wait_until import wait_until_async

SEED = 5


@pytest.fixture(scope="module")
def sinks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SinkProcess]:
    """One process of sinks for all tests here; each uses its own sink."""
    directory = tmp_path_factory.mktemp("sinks")
    processes = Processes(directory)
    try:
        yield SinkProcess(processes, seed=SEED, directory=directory)
    finally:
        processes.close()


def _writer(
    sinks: SinkProcess, sink: str, *, rate: float = 200.0, persistent: bool = True
) -> Writer:
    return Writer(
        name="w0",
        host="127.0.0.1",
        port=sinks.port,
        path=f"/{sink}",
        rate=rate,
        persistent=persistent,
    )


async def _write(sinks: SinkProcess, writer: Writer, events: int) -> list[Entry]:
    ledger = Ledger()
    load = Load(SEED, ledger, [writer])
    load.start()
    await wait_until_async(
        lambda: len(ledger.entries()) >= events, 10.0, f"{events} events are sent"
    )
    await load.stop()
    return ledger.entries()


async def test_what_was_written_arrived_intact(sinks: SinkProcess) -> None:
    """Every acknowledged event has an arrival, in order and undamaged."""
    entries = await _write(sinks, _writer(sinks, "ok"), 40)
    arrivals = [arrival for arrival in sinks.arrivals() if arrival.sink == "ok"]
    assert [entry.id for entry in entries] == [arrival.event for arrival in arrivals]
    assert {arrival.damage for arrival in arrivals} == {None}
    assert sinks.events("ok") == len(entries)


async def test_persistent_writer_repeats_until_acknowledged(sinks: SinkProcess) -> None:
    """Two failures per event mean three posts, and the event is acknowledged by the last."""
    sinks.script("flaky", Script(failures=2, failure_status=503))
    entries = await _write(sinks, _writer(sinks, "flaky"), 3)
    assert {(entry.posts, entry.outcome) for entry in entries} == {(3, Outcome.OK)}


async def test_writer_without_retries_leaves_events_unknown(sinks: SinkProcess) -> None:
    """After a 503 or a closed connection the event's outcome is unknown, after a 400 it
    is refused.
    """
    sinks.script("cut", Script(mode=Mode.RESET))
    sinks.script("storm", Script(status=503))
    sinks.script("strict", Script(status=400))
    outcomes = [
        {each.outcome for each in await _write(sinks, _writer(sinks, sink, persistent=False), 3)}
        for sink in ("cut", "storm", "strict")
    ]
    assert outcomes == [{Outcome.INFO}, {Outcome.INFO}, {Outcome.FAIL}]


async def test_poison_concerns_some_counters_only(sinks: SinkProcess) -> None:
    """Events whose counter the rule names are always refused, the others are accepted."""
    sinks.script("poison", Script(poison={"4:1": 400}))
    entries = await _write(sinks, _writer(sinks, "poison", persistent=False), 8)
    assert {entry.counter % 4 == 1 for entry in entries if entry.outcome is Outcome.FAIL} == {True}
    assert {entry.counter % 4 == 1 for entry in entries if entry.outcome is Outcome.OK} == {False}


async def test_slow_answer_is_delayed_and_a_reset_is_recorded(sinks: SinkProcess) -> None:
    """An arrival lasts from the first byte to the answer; one without an answer has no status."""
    sinks.script("slow", Script(delay_seconds=0.05))
    sinks.script("reset", Script(mode=Mode.RESET))
    for sink in ("slow", "reset"):
        await _write(sinks, _writer(sinks, sink, persistent=False), 1)
    slow = next(arrival for arrival in sinks.arrivals() if arrival.sink == "slow")
    assert 0.05 <= slow.end - slow.start < 1.0
    assert {arrival.status for arrival in sinks.arrivals() if arrival.sink == "reset"} == {None}


async def test_hanging_and_slow_sinks_never_finish(sinks: SinkProcess) -> None:
    """A client with a deadline closes the connection, and the arrival ends with it."""
    from tests.support.ledger import numbered

    for mode in (Mode.HANG, Mode.DRIP):
        sinks.script(mode.value, Script(mode=mode))
        line = Line("127.0.0.1", sinks.port)
        post = asyncio.create_task(
            line.post(request_of(_writer(sinks, mode.value), numbered(SEED, "w0", 0)))
        )
        done, _ = await asyncio.wait([post], timeout=0.4)
        assert done == set()
        post.cancel()
        line.close()
        await wait_until_async(
            lambda sink=mode.value: [a for a in sinks.arrivals() if a.sink == sink],  # type: ignore[misc]
            what="the arrival ends",
        )
        assert {arrival.status for arrival in sinks.arrivals() if arrival.sink == mode.value} == {
            None
        }


async def test_reply_carries_the_event_back(sinks: SinkProcess) -> None:
    """A replying sink answers with the event under a new id, which another sink recognises as that
    of the ledger.
    """
    import urllib3

    from tests.support.ledger import headers_of, numbered

    sinks.script("replying", Script(mode=Mode.REPLY))
    event = numbered(SEED, "w7", 3)
    headers = dict(line.split(": ", 1) for line in headers_of(event).decode().splitlines())
    with urllib3.PoolManager(timeout=5.0) as http:
        answer = http.request("POST", sinks.url("replying"), body=event.data, headers=headers)
        assert ("r:w7.3", "ledger.reply", event.data) == (
            answer.headers["ce-id"],
            answer.headers["ce-type"],
            answer.data,
        )
        back = {
            name: value for name, value in answer.headers.items() if name.lower().startswith("ce-")
        }
        http.request("POST", sinks.url("replies"), body=answer.data, headers=back)
    assert [
        (arrival.event, arrival.damage) for arrival in sinks.arrivals() if arrival.sink == "replies"
    ] == [("w7.3", None)]


async def test_times_are_comparable(sinks: SinkProcess) -> None:
    """Arrival times use the same clock as the writers'."""
    before = time.monotonic()
    await _write(sinks, _writer(sinks, "clock"), 1)
    arrival = next(each for each in sinks.arrivals() if each.sink == "clock")
    assert before <= arrival.start <= arrival.end <= time.monotonic()


def test_recording_sink_shows_whole_requests(sinks: SinkProcess, tmp_path: Path) -> None:
    """Headers and body of each request can be read back."""
    import urllib3

    sinks.script("whole", Script(record=True))
    with urllib3.PoolManager(timeout=5.0) as http:
        http.request(
            "POST", sinks.url("whole"), body=b"data", headers={"ce-id": "1", "Kn-Namespace": "ns"}
        )
    (request,) = sinks.requests("whole")
    assert (request.body, request.headers["kn-namespace"]) == (b"data", "ns")


def test_a_sink_knows_how_late_it_notices(tmp_path: Path) -> None:
    """With ticks at their times the lag is 0; without one for a second it is that second."""
    with (tmp_path / "log").open("w") as log, mock.patch.object(time, "monotonic") as clock:
        clock.return_value = now = 100.0
        sinks = Sinks(SEED, log)
        for _ in range(2 * TICKS):
            clock.return_value = now = now + TICK_SECONDS
            sinks.tick()
        assert sinks.lag(now) == 0.0
        assert sinks.lag(now + 1.0) == pytest.approx(1.0, abs=2 * TICK_SECONDS)


async def test_a_sink_that_was_forgotten_was_never_used(sinks: SinkProcess) -> None:
    """Another file of tests may use the same name: no script, no request, no count is left."""
    sinks.script("again", Script(record=True))
    await _write(sinks, _writer(sinks, "again"), 3)
    assert len(sinks.requests("again")) >= 3
    sinks.forget()
    assert not sinks.requests("again")
    assert not sinks.counts("again")
    await _write(sinks, _writer(sinks, "again"), 3)
    assert not sinks.requests("again")
    assert sinks.events("again") >= 3
