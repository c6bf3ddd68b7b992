"""A process dies in each of the windows that `CrashPoint` lists, comes back, and the ledger holds
all the same.

Random kills seldom hit windows of microseconds. Here the process ends itself with SIGKILL at a
given passage of one of them.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3

from headrace.runtime.crashpoints import CrashPoint
from tests.support.checker import Expectation, Generation, Run, check, losses
from tests.support.ledger import TYPES, Ledger, Parked
from tests.support.manifests import Manifest, broker, delivery, trigger
from tests.support.nemesis import Fault, FaultKind, Fired
from tests.support.report import Report
from tests.support.scripts import Mode, Script
from tests.support.waiting import wait_until, wait_until_async
from tests.support.world import Refused, World, group_of, path_of, wait_for_events, world_in
from tests.support.writers import Load, Writer

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
NAMESPACE = "crash"
WRITERS = 4
RATE = 25.0
CRASH_SECONDS = 25.0
SETTLED_SECONDS = 40.0
AGAIN = 4
"""Events of each writer after the process is back."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A Trigger whose events lead through a window; the events are those of writers named
    after it.
    """

    name: str
    script: Script = field(default_factory=Script)
    retry: int = 10
    delay: str = "PT0.2S"
    sink: bool = False

    @property
    def expectation_delay(self) -> float:
        """Seconds of the first delay."""
        return float(self.delay.strip("PTS"))


PLAIN = Scene("plain")
RETRYING = Scene("retrying", Script(failures=1, failure_status=503), retry=3)
REFUSING = Scene("refusing", Script(status=400), retry=3)
DELAYED = Scene(
    "delayed", Script(failures=1, failure_status=429, headers={"Retry-After": "11"}), retry=3
)
REPLYING = Scene("replying", Script(mode=Mode.REPLY, reply_type="reply.crash"))
PARKING = Scene("parking", Script(status=400), retry=3, sink=True)
SCENES = (PLAIN, RETRYING, REFUSING, DELAYED, REPLYING, PARKING)

DISPATCHER_WINDOWS = {
    CrashPoint.AFTER_POLL: (PLAIN, 3),
    CrashPoint.BEFORE_POST: (PLAIN, 10),
    CrashPoint.AFTER_POST: (PLAIN, 10),
    CrashPoint.AFTER_COMMIT: (PLAIN, 3),
    CrashPoint.BEFORE_RETRY_RECORD: (RETRYING, 5),
    CrashPoint.AFTER_RETRY_RECORD: (RETRYING, 5),
    CrashPoint.BEFORE_DEAD_LETTER: (REFUSING, 5),
    CrashPoint.AFTER_DEAD_LETTER: (REFUSING, 5),
    CrashPoint.IN_DELAY_READER: (DELAYED, 3),
    CrashPoint.AFTER_REPLY: (REPLYING, 5),
    CrashPoint.IN_DEAD_LETTER_SINK: (PARKING, 5),
}
"""Where an event must pass, and at which passage the process ends."""
INGRESS_WINDOWS = (CrashPoint.BEFORE_PRODUCE, CrashPoint.AFTER_PRODUCE)
REVOKE_WINDOWS = (CrashPoint.IN_REVOKE,)
CONTROLLER_WINDOWS = (
    CrashPoint.AFTER_TOPICS,
    CrashPoint.AFTER_START_OFFSETS,
    CrashPoint.AFTER_ROUTING_RECORD,
)
REMOVAL_WINDOWS = (CrashPoint.AFTER_TOMBSTONE,)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One installation; each test kills a process of it."""
    with world_in(tmp_path_factory.mktemp("crash")) as started:
        started.establish(
            broker(NAMESPACE), *(_trigger(started, scene) for scene in SCENES), _replies(started)
        )
        for scene in SCENES:
            started.sinks.script(scene.name, scene.script)
        yield started


def _trigger(world: World, scene: Scene) -> Manifest:
    filters = [{"prefix": {"partitionkey": scene.name}}, {"prefix": {"type": "ledger."}}]
    policy = delivery(
        retry=scene.retry,
        delay=scene.delay,
        sink=world.sinks.url(f"dls-{scene.name}") if scene.sink else None,
    )
    return trigger(
        NAMESPACE, scene.name, world.sinks.url(scene.name), filters=filters, delivery=policy
    )


def _replies(world: World) -> Manifest:
    return trigger(
        NAMESPACE, "replies", world.sinks.url("replies"), attributes={"type": "reply.crash"}
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
    assert set(CrashPoint) == covered


@pytest.mark.parametrize("window", list(DISPATCHER_WINDOWS), ids=lambda window: window.value)
async def test_dispatcher_dies(world: World, window: CrashPoint, tmp_path: Path) -> None:
    """The dispatcher is killed in the window and started again: nothing acknowledged is lost, and
    what was in hand comes at most twice.
    """
    scene, passage = DISPATCHER_WINDOWS[window]
    # Not killed: what an earlier test had delivered and not committed would come again, and be what
    # passes the window.
    world.services["dispatcher-0"].stop()
    world.run("dispatcher-0", env={"HEADRACE_CRASH_AT": f"{window}:{passage}"})
    report = await _prove(world, "dispatcher-0", scene, window, tmp_path)
    if window in (CrashPoint.AFTER_POST, CrashPoint.AFTER_REPLY):
        assert report.duplicates > 0, (
            "the process was to die after a delivery and before its commit: something must come"
            " twice"
        )


@pytest.mark.parametrize("window", INGRESS_WINDOWS, ids=lambda window: window.value)
async def test_ingress_dies(world: World, window: CrashPoint, tmp_path: Path) -> None:
    """The ingress is killed around a produce and started again: no 202 stands for an event that is
    not stored.
    """
    world.services["ingress"].kill()
    world.run("ingress", env={"HEADRACE_CRASH_AT": f"{window}:10"})
    await asyncio.to_thread(world.wait_until_ready, "ingress")
    await _prove(world, "ingress", PLAIN, window, tmp_path)


@pytest.mark.parametrize("window", REVOKE_WINDOWS, ids=lambda window: window.value)
async def test_dispatcher_dies_giving_partitions_back(
    world: World, window: CrashPoint, tmp_path: Path
) -> None:
    """The dispatcher is killed while a second one joins and takes partitions over: they are
    delivered all the same.
    """
    world.services["dispatcher-0"].kill()
    world.run("dispatcher-0", env={"HEADRACE_CRASH_AT": f"{window}:1"})
    await asyncio.to_thread(world.wait_until_ready, "dispatcher-0")
    joining = asyncio.get_running_loop().call_later(1.0, world.run, "dispatcher-1")
    try:
        await _prove(world, "dispatcher-0", PLAIN, window, tmp_path)
    finally:
        joining.cancel()
        await asyncio.to_thread(world.services["dispatcher-1"].stop)


@pytest.mark.parametrize("window", CONTROLLER_WINDOWS, ids=lambda window: window.value)
def test_controller_dies_making_a_trigger(world: World, window: CrashPoint) -> None:
    """The controller is killed on the way to Ready and started again: the Trigger becomes Ready,
    and gets what is sent after.
    """
    name = f"made-{window}"
    manifest = trigger(
        NAMESPACE, name, world.sinks.url(name), filters=[{"prefix": {"id": f"{name}."}}]
    )
    _kill_controller(world, window, "POST", path_of(manifest).rpartition("/")[0], manifest)
    world.wait_ready(manifest)
    headers = {"ce-specversion": "1.0", "ce-id": f"{name}.0", "ce-source": "/s", "ce-type": "t"}
    assert world.post(f"/{NAMESPACE}/default", headers) == 202
    wait_for_events(world, name, 1)
    before = world.log.ends(["headrace.routing"])
    world.delete(manifest)
    assert before != world.log.ends(["headrace.routing"])


@pytest.mark.parametrize("window", REMOVAL_WINDOWS, ids=lambda window: window.value)
def test_controller_dies_removing_a_trigger(world: World, window: CrashPoint) -> None:
    """The controller is killed between tombstone and clean-up and started again: group and retry
    topic go, the dead letters stay.
    """
    manifest = trigger(NAMESPACE, "removed", world.sinks.url("removed"))
    world.establish(manifest)
    group = group_of(world.get(manifest) or manifest)
    _kill_controller(world, window, "DELETE", path_of(manifest))
    wait_until(lambda: world.get(manifest) is None, 30.0, "the Trigger is gone", every=0.1)
    wait_until(
        lambda: f"{group}.retry" not in world.log.topics() and group not in world.log.groups(),
        20.0,
        "group and retry topic are gone",
        every=0.2,
    )
    assert f"{group}.dead" in world.log.topics()


def _kill_controller(
    world: World, window: CrashPoint, method: str, path: str, body: Manifest | None = None
) -> None:
    """Have the controller die in `window` while it carries out a call, and start it again."""
    process = world.services["controller"]
    process.kill()
    world.run("controller", env={"HEADRACE_CRASH_AT": f"{window}:1"})
    world.wait_until_ready("controller")
    taken = False

    def died() -> bool:
        nonlocal taken
        # Ready is for reads too: until it has the writer's place back it refuses what is to be
        # stored, and would never get to the window.
        if process.running and not taken:
            taken = _ask(world, method, path, body)
        return not process.running

    wait_until(died, CRASH_SECONDS, f"the controller dies at {window}")
    assert process.returncode == -9
    world.run("controller")
    world.wait_until_ready("controller")


def _ask(world: World, method: str, path: str, body: Manifest | None) -> bool:
    """Whether the controller has taken a call, this time or, without a word, before."""
    try:
        world.call(method, path, body)
    except urllib3.exceptions.HTTPError:
        return False
    except Refused as refused:
        if refused.status == 503:
            return False
        # What a call whose answer was lost has left behind: made already, gone already.
        assert refused.status == {"POST": 409, "DELETE": 404}[method], refused
    return True


async def _prove(
    world: World, victim: str, scene: Scene, window: CrashPoint, directory: Path
) -> Report:
    """Write until `victim` dies, start it again, write a little more, and judge."""
    names = [f"{scene.name}-{window}-{number}" for number in range(WRITERS)]
    ledger = Ledger(directory / "ledger.jsonl")
    port, path = world.ingress_port, f"/{NAMESPACE}/default"
    load = Load(
        world.seed,
        ledger,
        [Writer(name=name, host="127.0.0.1", port=port, path=path, rate=RATE) for name in names],
    )
    started = time.monotonic()
    load.start()
    process = world.services[victim]
    await wait_until_async(lambda: not process.running, CRASH_SECONDS, f"{victim} dies at {window}")
    died = time.monotonic()
    assert process.returncode == -9
    await asyncio.to_thread(world.run, victim)
    await asyncio.to_thread(world.wait_until_ready, victim)
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
        return _look(world, scene, names, ledger, started, fired)

    await asyncio.to_thread(
        wait_until,
        lambda: not losses(look()),
        SETTLED_SECONDS,
        "all is delivered or parked",
        every=0.3,
    )
    report = check(look())
    ledger.close()
    assert report.violations == [], report.as_text()
    return report


def _look(
    world: World, scene: Scene, names: list[str], ledger: Ledger, started: float, fired: Fired
) -> Run:
    """The run as it stands."""
    mine = {scene.name, f"dls-{scene.name}", "replies"}
    arrivals = [
        each
        for each in world.sinks.arrivals()
        if each.sink in mine and each.event.rpartition(".")[0] in names
    ]
    dead = (
        world.log.records(f"{group_of(_trigger(world, scene))}.dead")
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
        seed=world.seed,
        started=started,
        calm_until=fired.started,
        load_ended=fired.ended,
        entries=ledger.entries(),
        arrivals=arrivals,
        parked=[
            Parked(scene.name, event, reason)
            for event, reason in events
            if event.rpartition(".")[0] in names
        ],
        expectations=expectations,
        faults=[fired],
        in_flight_max=200,
        faults_expected=False,
    )
