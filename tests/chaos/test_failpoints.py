"""A process dies in each of the windows that `Failpoint` lists and restarts, and the ledger's
invariants hold.

Random kills seldom hit windows of microseconds. Here the process ends itself with SIGKILL at a
given passage of one of them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3

from headrace.runtime.failpoints import Failpoint
from tests.support.checker import Expectation, Generation, Run, check, losses
from tests.support.event_writers import Load, Writer
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    Refused,
    group_of,
    headrace_in,
    path_of,
    wait_for_events,
)
from tests.support.ledger import TYPES, DeadLettered, Ledger
from tests.support.manifests import Manifest, broker, delivery, trigger
from tests.support.nemesis import Fault, FaultKind, Fired
from tests.support.report import Report
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until, wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
NAMESPACE = "crash"
WRITERS = 4
RATE = 25.0
CRASH_SECONDS = 25.0
SETTLED_SECONDS = 40.0
AGAIN = 4
"""Events of each writer after the process is back."""
DELIVERIES_MAX = 4
"""Of one event: the first, one after the kill, one after a shutdown that ended before its commit,
and one because the writer posted it twice.
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A Trigger whose events pass a window; the events are those of writers named after it."""

    name: str
    script: Script = field(default_factory=Script)
    retry: int = 10
    delay: str = "PT0.2S"
    sink: bool = False

    @property
    def expectation_delay(self) -> float:
        """The first delay, in seconds."""
        return float(self.delay.strip("PTS"))


PLAIN = Scenario("plain")
RETRYING = Scenario("retrying", Script(failures=1, failure_status=503), retry=3)
REFUSING = Scenario("refusing", Script(status=400), retry=3)
DELAYED = Scenario(
    "delayed", Script(failures=1, failure_status=429, headers={"Retry-After": "11"}), retry=3
)
REPLYING = Scenario("replying", Script(mode=Mode.REPLY, reply_type="reply.crash"))
DEAD_LETTERING = Scenario("dead-lettering", Script(status=400), retry=3, sink=True)
SCENES = (PLAIN, RETRYING, REFUSING, DELAYED, REPLYING, DEAD_LETTERING)

DISPATCHER_WINDOWS = {
    Failpoint.AFTER_POLL: (PLAIN, 3),
    Failpoint.BEFORE_POST: (PLAIN, 10),
    Failpoint.AFTER_POST: (PLAIN, 10),
    Failpoint.AFTER_COMMIT: (PLAIN, 3),
    Failpoint.BEFORE_RETRY_RECORD: (RETRYING, 5),
    Failpoint.AFTER_RETRY_RECORD: (RETRYING, 5),
    Failpoint.BEFORE_DEAD_LETTER: (REFUSING, 5),
    Failpoint.AFTER_DEAD_LETTER: (REFUSING, 5),
    Failpoint.IN_DELAY_READER: (DELAYED, 3),
    Failpoint.AFTER_REPLY: (REPLYING, 5),
    Failpoint.IN_DEAD_LETTER_SINK: (DEAD_LETTERING, 5),
}
"""Which scenario passes the window, and at which passage the process ends."""
INGRESS_WINDOWS = (Failpoint.BEFORE_PRODUCE, Failpoint.AFTER_PRODUCE)
REVOKE_WINDOWS = (Failpoint.IN_REVOKE,)
CONTROLLER_WINDOWS = (
    Failpoint.AFTER_TOPICS,
    Failpoint.AFTER_START_OFFSETS,
    Failpoint.AFTER_ROUTING_RECORD,
)
REMOVAL_WINDOWS = (Failpoint.AFTER_TOMBSTONE,)
CONTROLLER_PASSAGES = {Failpoint.AFTER_ROUTING_RECORD: 2}
"""At which passage of a window the controller ends, if not at the first: a new leader first writes
all routing records once, with its epoch.
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUnderTest]:
    """One installation; each test kills a process of it."""
    with headrace_in(tmp_path_factory.mktemp("crash")) as started:
        started.establish(
            broker(NAMESPACE), *(_trigger(started, scene) for scene in SCENES), _replies(started)
        )
        for scene in SCENES:
            started.sinks.script(scene.name, scene.script)
        yield started


def _trigger(system: HeadraceUnderTest, scene: Scenario) -> Manifest:
    filters = [{"prefix": {"partitionkey": scene.name}}, {"prefix": {"type": "ledger."}}]
    policy = delivery(
        retry=scene.retry,
        delay=scene.delay,
        sink=system.sinks.url(f"dls-{scene.name}") if scene.sink else None,
    )
    return trigger(
        NAMESPACE, scene.name, system.sinks.url(scene.name), filters=filters, delivery=policy
    )


def _replies(system: HeadraceUnderTest) -> Manifest:
    return trigger(
        NAMESPACE, "replies", system.sinks.url("replies"), attributes={"type": "reply.crash"}
    )


def test_every_window_has_a_test() -> None:
    """No window of the enum is left out."""
    covered = {
        *DISPATCHER_WINDOWS,
        *INGRESS_WINDOWS,
        *REVOKE_WINDOWS,
        *CONTROLLER_WINDOWS,
        *REMOVAL_WINDOWS,
    }
    assert set(Failpoint) == covered


@pytest.mark.parametrize("window", list(DISPATCHER_WINDOWS), ids=lambda window: window.value)
async def test_dispatcher_is_killed_in_a_window(
    system: HeadraceUnderTest, window: Failpoint, tmp_path: Path
) -> None:
    """The dispatcher is killed in the window and restarted: nothing acknowledged is lost, and what
    was in flight is delivered at most twice.
    """
    scene, passage = DISPATCHER_WINDOWS[window]
    # Stopped, not killed: otherwise events that an earlier test had delivered and not committed
    # would be delivered again and pass the window.
    system.services["dispatcher-0"].stop()
    system.run("dispatcher-0", env={"HEADRACE_CRASH_AT": f"{window}:{passage}"})
    report = await _prove(system, "dispatcher-0", scene, window, tmp_path)
    if window in (Failpoint.AFTER_POST, Failpoint.AFTER_REPLY):
        assert report.duplicates > 0, (
            "the process died after a delivery and before its commit: an event must be delivered"
            " twice"
        )


@pytest.mark.parametrize("window", INGRESS_WINDOWS, ids=lambda window: window.value)
async def test_ingress_is_killed_in_a_window(
    system: HeadraceUnderTest, window: Failpoint, tmp_path: Path
) -> None:
    """The ingress is killed around a produce and restarted: no 202 was sent for an event that is
    not stored.
    """
    system.services["ingress"].kill()
    system.run("ingress", env={"HEADRACE_CRASH_AT": f"{window}:10"})
    await asyncio.to_thread(system.wait_until_ready, "ingress")
    await _prove(system, "ingress", PLAIN, window, tmp_path)


@pytest.mark.parametrize("window", REVOKE_WINDOWS, ids=lambda window: window.value)
async def test_dispatcher_is_killed_while_partitions_are_revoked(
    system: HeadraceUnderTest, window: Failpoint, tmp_path: Path
) -> None:
    """The dispatcher is killed while a second one joins and takes partitions over: their events are
    still delivered.
    """
    system.services["dispatcher-0"].kill()
    system.run("dispatcher-0", env={"HEADRACE_CRASH_AT": f"{window}:1"})
    await asyncio.to_thread(system.wait_until_ready, "dispatcher-0")
    joining = asyncio.get_running_loop().call_later(1.0, system.run, "dispatcher-1")
    try:
        await _prove(system, "dispatcher-0", PLAIN, window, tmp_path)
    finally:
        joining.cancel()
        await asyncio.to_thread(system.services["dispatcher-1"].stop)


@pytest.mark.parametrize("window", CONTROLLER_WINDOWS, ids=lambda window: window.value)
def test_controller_is_killed_while_it_creates_a_trigger(
    system: HeadraceUnderTest, window: Failpoint
) -> None:
    """The controller is killed before Ready and restarted: the Trigger becomes Ready and receives
    what is sent afterwards.
    """
    name = f"made-{window}"
    manifest = trigger(
        NAMESPACE, name, system.sinks.url(name), filters=[{"prefix": {"id": f"{name}."}}]
    )
    _kill_controller(system, window, "POST", path_of(manifest).rpartition("/")[0], manifest)
    system.wait_ready(manifest)
    headers = {"ce-specversion": "1.0", "ce-id": f"{name}.0", "ce-source": "/s", "ce-type": "t"}
    assert system.post(f"/{NAMESPACE}/default", headers) == 202
    wait_for_events(system, name, 1)
    before = system.log.ends(["headrace.routing"])
    system.delete(manifest)
    assert before != system.log.ends(["headrace.routing"])


@pytest.mark.parametrize("window", REMOVAL_WINDOWS, ids=lambda window: window.value)
def test_controller_is_killed_while_it_deletes_a_trigger(
    system: HeadraceUnderTest, window: Failpoint
) -> None:
    """The controller is killed between tombstone and clean-up and restarted: group and retry topic
    are deleted, the dead letters stay.
    """
    manifest = trigger(NAMESPACE, "removed", system.sinks.url("removed"))
    system.establish(manifest)
    group = group_of(system.get(manifest) or manifest)
    _kill_controller(system, window, "DELETE", path_of(manifest))
    wait_until(lambda: system.get(manifest) is None, 30.0, "the Trigger is deleted", every=0.1)
    wait_until(
        lambda: f"{group}.retry" not in system.log.topics() and group not in system.log.groups(),
        20.0,
        "group and retry topic are deleted",
        every=0.2,
    )
    assert f"{group}.dead" in system.log.topics()


def _kill_controller(
    system: HeadraceUnderTest,
    window: Failpoint,
    method: str,
    path: str,
    body: Manifest | None = None,
) -> None:
    """Make the controller die in `window` while it handles a call, and restart it."""
    process, passage = system.services["controller"], CONTROLLER_PASSAGES.get(window, 1)
    process.kill()
    before = system.log.ends(["headrace.routing"])
    system.run("controller", env={"HEADRACE_CRASH_AT": f"{window}:{passage}"})
    system.wait_until_ready("controller")
    if passage > 1:
        # Otherwise what the call changes could be written together with that.
        wait_until(
            lambda: system.log.ends(["headrace.routing"]) != before,
            CRASH_SECONDS,
            "the new leader has written the routing records",
        )
    taken = False

    def died() -> bool:
        nonlocal taken
        # Ready counts for reads too: until it is the writer again it refuses writes, and would
        # never reach the window.
        if process.running and not taken:
            taken = _ask(system, method, path, body)
        return not process.running

    wait_until(died, CRASH_SECONDS, f"the controller dies at {window}")
    assert process.returncode == -9
    system.run("controller")
    system.wait_until_ready("controller")


def _ask(system: HeadraceUnderTest, method: str, path: str, body: Manifest | None) -> bool:
    """Whether the controller has accepted a call, now or earlier without an answer."""
    try:
        system.call(method, path, body)
    except urllib3.exceptions.HTTPError:
        return False
    except Refused as refused:
        if refused.status == 503:
            return False
        # The effect of a call whose answer was lost: already created, or already deleted.
        assert refused.status == {"POST": 409, "DELETE": 404}[method], refused
    return True


async def _prove(
    system: HeadraceUnderTest, victim: str, scene: Scenario, window: Failpoint, directory: Path
) -> Report:
    """Write until `victim` dies, restart it, write some more, and check."""
    names = [f"{scene.name}-{window}-{number}" for number in range(WRITERS)]
    ledger = Ledger(directory / "ledger.jsonl")
    port, path = system.ingress_port, f"/{NAMESPACE}/default"
    load = Load(
        system.seed,
        ledger,
        [Writer(name=name, host="127.0.0.1", port=port, path=path, rate=RATE) for name in names],
    )
    started = time.monotonic()
    load.start()
    process = system.services[victim]
    await wait_until_async(lambda: not process.running, CRASH_SECONDS, f"{victim} dies at {window}")
    died = time.monotonic()
    assert process.returncode == -9
    await asyncio.to_thread(system.run, victim)
    await asyncio.to_thread(system.wait_until_ready, victim)
    seen = ledger.totals.acknowledged
    await wait_until_async(
        lambda: ledger.totals.acknowledged >= seen + AGAIN * WRITERS,
        CRASH_SECONDS,
        "events are acknowledged again",
    )
    await load.stop()
    kind = FaultKind.KILL_INGRESS if victim == "ingress" else FaultKind.KILL_DISPATCHER
    fired = Fired(Fault(0.0, kind, 0.0), died, time.monotonic())

    def look() -> Run:
        return _look(system, scene, names, ledger, started, fired)

    await asyncio.to_thread(
        wait_until,
        lambda: not losses(look()),
        SETTLED_SECONDS,
        "every event is delivered or dead-lettered",
        every=0.3,
    )
    report = check(look())
    ledger.close()
    assert report.violations == [], report.as_text()
    _assert_no_reader_started_over(system)
    return report


def _assert_no_reader_started_over(system: HeadraceUnderTest) -> None:
    """No event of this module was delivered more often than the restarts around it explain.

    The number of duplicates of one restart says less: it is the backlog that the process had just
    delivered and not committed, hundreds of events on a slow machine.
    """
    deliveries = Counter(
        each.event for each in system.sinks.arrivals() if each.sink == PLAIN.name and each.accepted
    )
    often = {event: count for event, count in deliveries.items() if count > DELIVERIES_MAX}
    assert not often, often


def _look(
    system: HeadraceUnderTest,
    scene: Scenario,
    names: list[str],
    ledger: Ledger,
    started: float,
    fired: Fired,
) -> Run:
    """The run so far."""
    mine = {scene.name, f"dls-{scene.name}", "replies"}
    arrivals = [
        each
        for each in system.sinks.arrivals()
        if each.sink in mine and each.event.rpartition(".")[0] in names
    ]
    dead = (
        system.log.records(f"{group_of(_trigger(system, scene))}.dead")
        if scene.script.status >= 300
        else []
    )
    events = [
        (record.attributes().get("id", ""), record.headers.get("headrace_reason", b"").decode())
        for record in dead
    ]
    general = {"generations": (Generation(frozenset(TYPES)),), "writers": frozenset(names)}
    expectations = [
        Expectation(
            name=scene.name,
            retry=scene.retry,
            delay_seconds=scene.expectation_delay,
            **general,  # type: ignore[arg-type]
        )
    ]
    if scene.sink:
        expectations.append(Expectation(name=f"dls-{scene.name}", **general))  # type: ignore[arg-type]
    if scene is REPLYING:
        expectations.append(Expectation(name="replies", **general))  # type: ignore[arg-type]
    return Run(
        seed=system.seed,
        started=started,
        calm_until=fired.started,
        load_ended=fired.ended,
        entries=ledger.entries(),
        arrivals=arrivals,
        dead_lettered=[
            DeadLettered(scene.name, event, reason)
            for event, reason in events
            if event.rpartition(".")[0] in names
        ],
        expectations=expectations,
        faults=[fired],
        faults_expected=False,
    )
