"""The process that serves in-memory channels: bounded, and it says what is lost with it."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    condition,
    headrace_in,
    wait_for_events,
)
from tests.support.manifests import channel, delivery, subscription
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

NAMESPACE = "memory"
BYTES_MAX = 8 * 1_048_576
TOPIC_BYTES_MAX = BYTES_MAX // 4
DATA = b"x" * 100_000
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUnderTest]:
    """An installation whose in-memory channels have 8 MiB."""
    env = {"HEADRACE_IN_MEMORY_BYTES_MAX": str(BYTES_MAX)}
    with headrace_in(tmp_path_factory.mktemp("memory"), in_memory=True, env=env) as started:
        started.use_channels("InMemoryChannel")
        yield started


def send(headrace: HeadraceUnderTest, name: str, number: int) -> int:
    """Send an event of 100 kB to a channel; the status."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"{name}.{number}",
        "ce-source": "/test",
        "ce-type": "large",
        "content-type": "application/octet-stream",
    }
    return headrace.post(f"/{NAMESPACE}/inmemorychannels/{name}", headers, DATA)


def metric(headrace: HeadraceUnderTest, name: str) -> dict[str, float]:
    """The values of a metric by topic."""
    found = re.findall(
        rf'^headrace_{name}{{topic="([^"]*)"}} (\S+)$', headrace.metrics("in-memory"), re.MULTILINE
    )
    return {topic: float(value) for topic, value in found}


def test_a_full_channel_accepts_no_more_and_others_do(headrace: HeadraceUnderTest) -> None:
    """503 until its events are delivered; what was accepted arrives."""
    full, free = channel(NAMESPACE, "full"), channel(NAMESPACE, "free")
    headrace.sinks.script("full", Script(mode=Mode.HANG))
    headrace.establish(full, free)
    headrace.establish(
        subscription(full, "full", headrace.sinks.url("full"), delivery={"timeout": "PT2S"}),
        subscription(free, "free", headrace.sinks.url("free")),
    )
    statuses = [send(headrace, "full", number) for number in range(30)]

    accepted = statuses.count(202)
    assert statuses == [202] * accepted + [503] * (30 - accepted)
    assert TOPIC_BYTES_MAX - 2 * len(DATA) < accepted * len(DATA) <= TOPIC_BYTES_MAX
    assert metric(headrace, "in_memory_bytes")[f"in-memory:channel.{NAMESPACE}.full"] > 0
    assert send(headrace, "free", 0) == 202
    wait_for_events(headrace, "free", 1)

    headrace.sinks.script("full", Script())
    wait_for_events(headrace, "full", accepted, seconds=40)
    wait_until(lambda: send(headrace, "full", 100) == 202, 10, "there is room again")


def test_dead_letters_that_are_dropped_are_counted(headrace: HeadraceUnderTest) -> None:
    """Without a sink nobody reads them; the newest stay."""
    failing = channel(NAMESPACE, "failing")
    failed = subscription(
        failing, "failing", headrace.sinks.url("failing"), delivery=delivery(retry=0)
    )
    headrace.sinks.script("failing", Script(status=400))
    headrace.establish(failing)
    headrace.establish(failed)
    for number in range(40):
        wait_until(
            lambda number=number: send(headrace, "failing", number) == 202,  # type: ignore[misc]
            15,
            "there is room",
        )
    wait_until(
        lambda: len([each for each in headrace.sinks.arrivals() if each.sink == "failing"]) >= 40,
        15,
        "every event was attempted",
    )
    wait_until(lambda: any(metric(headrace, "in_memory_lost_events_total").values()), 10, "a loss")

    [(topic, lost)] = metric(headrace, "in_memory_lost_events_total").items()
    assert topic.endswith(".dead")
    kept = metric(headrace, "in_memory_bytes")[topic]
    assert 40 - kept / len(DATA) - 1 <= lost < 40
    lines = headrace.services["in-memory"].output()
    assert "the oldest dead letters are dropped" in lines
    found = headrace.get(channel(NAMESPACE, "failing", kind="InMemoryChannel")) or {}
    assert condition(found, "Durable")["status"] == "False"


def test_the_end_of_the_process_says_how_many_events_are_lost(headrace: HeadraceUnderTest) -> None:
    """It starts again empty, with the same Subscriptions."""
    last = channel(NAMESPACE, "last")
    headrace.sinks.script("last", Script(status=503))
    headrace.establish(last)
    headrace.establish(
        subscription(
            last, "last", headrace.sinks.url("last"), delivery=delivery(retry=50, delay="PT1M")
        )
    )
    for number in range(5):
        assert send(headrace, "last", number) == 202
    wait_until(
        lambda: len([each for each in headrace.sinks.arrivals() if each.sink == "last"]) >= 5,
        15,
        "each was attempted",
    )
    process = headrace.services["in-memory"]
    before = len(process.output())
    process.terminate()
    assert process.wait(30) == 0
    [line] = [
        json.loads(each)
        for each in process.output()[before:].splitlines()
        if '"in_memory_events_lost"' in each
    ]
    # Those of this test, and the dead letters of the others.
    assert line["count"] >= 5

    process.start()
    headrace.wait_until_ready("in-memory")
    headrace.sinks.script("last", Script())
    wait_until(lambda: send(headrace, "last", 100) == 202, 30, "the channel accepts events")
    wait_for_events(headrace, "last", 1)
    assert {
        each.event for each in headrace.sinks.arrivals() if each.sink == "last" and each.accepted
    } == {"last.100"}
