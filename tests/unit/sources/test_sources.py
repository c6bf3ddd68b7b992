"""What runs in one process: by the routing table, the leases and the placement of each adapter."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from headrace.adapters.http.client_options import deny_none
from headrace.adapters.memory.clock import MemoryClock
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.sender import MemorySender
from headrace.adapters.memory.source_leases import MemorySourceLeases
from headrace.codec.routing import write
from headrace.domain.errors import LogUnavailable
from headrace.domain.ports import Instance
from headrace.domain.routing import Destination, EventSource, RemovedRoute, route_key
from headrace.domain.source_report import SourceReport
from headrace.runtime.metrics import Metrics
from headrace_sources import running_source
from headrace_sources.emitter import EmitterContext
from headrace_sources.receiver import Receiver
from headrace_sources.registry import AdapterEntry, Placement
from headrace_sources.running_source import SourceServices
from headrace_sources.secrets import SecretData, Secrets
from headrace_sources.settings import SourcesSettings
from headrace_sources.source import Emit, SecretKeyRef, SourceConfig, SourceContext, SourceFault
from headrace_sources.sources import Sources
from tests.support.wait_until import wait_until_async

HERE = "tests.unit.sources.test_sources"
SINK = Destination(url="http://127.0.0.1:1/sink")


class StepsConfig(SourceConfig):
    """What the adapter of these tests does."""

    step: str = "wait"
    number: int = 0


class StepsSource:
    """Does one thing, and notes what happens to it."""

    Config: ClassVar[type[SourceConfig]] = StepsConfig
    log: ClassVar[list[str]] = []

    def __init__(self, config: StepsConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    async def run(self, emit: Emit) -> None:
        """`end` returns, `fail`, `break` and `secret` fail, everything else waits."""
        self.log.append(f"run {self._config.step} {self._config.number}")
        try:
            match self._config.step:
                case "end":
                    return
                case "fail":
                    raise SourceFault("Refused", "ask for access", condition="Access")
                case "break":
                    raise KeyError("a defect")
                case "connect":
                    self._context.report("Deployed", None, "Connecting", "it is being opened")
                    await asyncio.sleep(0)
                    if len(self.log) < 4:
                        raise SourceFault("NotFound", "create it")
                case "secret":
                    value = await self._context.secret(SecretKeyRef(name="one", key="value"))
                    self.log.append(value.decode())
                case "lead":
                    await self._context.lead()
                    self._context.report("Registered", True)
                    self._context.publish(registration="1")
                    self.log.append("leads")
            await asyncio.Event().wait()
        finally:
            self.log.append("ended")

    async def finalize(self) -> None:
        """Fails while the step is `fail`."""
        self.log.append("finalize")
        if self._config.step == "fail":
            raise SourceFault("Refused", "ask for access")


class Leases(MemorySourceLeases):
    """Held only while `held` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.held = True
        self.listener: Any = None

    async def start(self, listener: Any) -> None:
        """See the port."""
        self.listener = listener
        await super().start(listener)

    def holds(self, uid: str) -> bool:
        """See the port."""
        return self.held


class Vault:
    """Implements `SecretReader` with one Secret."""

    def __init__(self) -> None:
        self.data: Mapping[str, bytes] = {"value": b"first"}
        self.version = "1"

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """See the port."""
        return SecretData(self.version, self.data) if name == "one" else None

    async def close(self) -> None:
        """See the port."""


class Harness:
    """The component over memory."""

    def __init__(self) -> None:
        clock, self.routing = MemoryClock(), MemoryRoutingLog()
        self.clock = clock
        self.instances = MemoryInstances(clock)
        self.leases, self.vault = Leases(), Vault()
        routes = MemoryRoutingReader(self.routing)
        self.receiver = Receiver(SourcesSettings(port=0))
        self.secrets = Secrets(self.vault)
        self.sources = Sources(
            instance_id="sources-1",
            services=SourceServices(
                emitters=EmitterContext(
                    log=MemoryLog(),
                    sender=MemorySender(),
                    clock=clock,
                    table=routes.table,
                    jitter=lambda: 0.0,
                ),
                secrets=self.secrets,
                leases=self.leases,
                receiver=self.receiver,
                clock=clock,
                address_denied=deny_none,
                settings=SourcesSettings(),
            ),
            routes=routes,
            instances=self.instances,
            metrics=Metrics(process=False),
            adapters={
                "steps": AdapterEntry(HERE, "StepsSource", Placement.ONE_PROCESS),
                "every": AdapterEntry(HERE, "StepsSource", Placement.EVERY_PROCESS),
                "absent": AdapterEntry("no_such_module", "X", Placement.ONE_PROCESS),
                "sdk": AdapterEntry(
                    "no_such_sdk.x", "X", Placement.ONE_PROCESS, "sources-x", ("no_such_sdk",)
                ),
            },
        )

    async def put(self, adapter: str = "steps", uid: str = "s", **more: Any) -> EventSource:
        """Write the record of a source."""
        config: dict[str, Any] = {
            name: more.pop(name) for name in ("step", "number", "wrong") if name in more
        }
        route = EventSource(
            uid=uid,
            generation=1,
            epoch=1,
            namespace="default",
            name=uid,
            kind="K",
            adapter=adapter,
            config=config,
            **{"sink": SINK, **more},
        )
        await self.write(route)
        return route

    async def write(self, route: EventSource) -> None:
        """Write this record."""
        await MemoryRoutingWriter(self.routing).write({route_key(route): write(route)})

    async def remove(self, route: EventSource) -> None:
        """Write its removal."""
        await MemoryRoutingWriter(self.routing).write(
            {route_key(route): write(RemovedRoute(epoch=1))}
        )

    def report(self, uid: str = "s") -> SourceReport | None:
        """What was reported last."""
        return next((each.sources.get(uid) for each in self.instances.live()), None)

    async def reported(self, condition: str, reason: str, uid: str = "s") -> str:
        """Wait until a condition has this reason; its message."""

        def shown() -> bool:
            report = self.report(uid)
            found = report.conditions.get(condition) if report is not None else None
            return found is not None and found.reason == reason

        await wait_until_async(shown, 10.0, what=f"{condition} is {reason}")
        report = self.report(uid)
        assert report is not None
        return report.conditions[condition].message

    async def logged(self, *lines: str) -> None:
        """Wait until the adapter has noted these lines, the last ones in their order."""
        await wait_until_async(
            lambda: StepsSource.log[-len(lines) :] == list(lines),
            10.0,
            what=f"{lines} is noted",
        )


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    """Started."""
    StepsSource.log.clear()
    started = Harness()
    await started.receiver.start()
    await started.sources.start()
    yield started
    await started.sources.drain()
    await started.sources.stop()
    await started.receiver.stop()


async def test_a_source_runs_and_is_stopped_with_its_record(harness: Harness) -> None:
    """And is reported as deployed meanwhile."""
    route = await harness.put()
    await harness.logged("run wait 0")
    await harness.reported("Deployed", "")
    await harness.remove(route)
    await harness.logged("run wait 0", "ended")
    await wait_until_async(lambda: harness.report() is None, 10.0, what="nothing is reported")


async def test_a_changed_configuration_starts_it_again_and_another_sink_does_not(
    harness: Harness,
) -> None:
    """A sink, a policy and published fields change in place."""
    route = await harness.put()
    await harness.logged("run wait 0")
    changed = replace(route, sink=Destination(url="http://127.0.0.1:1/other"), generation=2)
    await harness.write(replace(changed, published={"field": 1}))
    await wait_until_async(
        lambda: (report := harness.report()) is not None and report.generation == 2,
        10.0,
        what="the new generation is reported",
    )
    assert StepsSource.log == ["run wait 0"]
    await harness.write(replace(changed, config={"number": 2}, generation=3))
    await harness.logged("run wait 0", "ended", "run wait 2")


@pytest.fixture
def reports(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> list[SourceReport]:
    """Everything that is reported."""
    found: list[SourceReport] = []
    report = harness.instances.report

    async def record(instance: Instance) -> None:
        found.extend(instance.sources.values())
        await report(instance)

    monkeypatch.setattr(harness.instances, "report", record)
    return found


async def test_a_changed_configuration_is_not_reported_as_deployed_before_it_is_tried(
    harness: Harness, reports: list[SourceReport]
) -> None:
    """Otherwise the resource is Ready at its new generation, and is not a moment later."""
    route = await harness.put()
    await harness.reported("Deployed", "")
    await harness.write(replace(route, config={"wrong": 1}, generation=2))
    await harness.reported("Deployed", "InvalidConfiguration")
    newest = [each.conditions["Deployed"].status for each in reports if each.generation == 2]
    assert newest
    assert True not in newest


async def test_a_fault_is_reported_and_the_source_is_started_again(harness: Harness) -> None:
    """Under its own condition; and it starts at once when the configuration is changed."""
    route = await harness.put(step="fail")
    assert await harness.reported("Access", "Refused") == "ask for access"
    await harness.logged("run fail 0", "ended", "run fail 0", "ended")
    await harness.write(replace(route, config={"step": "wait"}, generation=2))
    await harness.logged("run wait 0")


@pytest.mark.parametrize(("step", "reason"), [("connect", "NotFound"), ("break", "AdapterFailed")])
async def test_a_fault_is_shown_until_an_attempt_does_not_have_it(
    harness: Harness, reports: list[SourceReport], step: str, reason: str
) -> None:
    """Neither that the source is started again nor that it connects changes the condition."""
    await harness.put(step=step)
    await harness.reported("Deployed", reason)
    first = len(reports)
    attempt = [f"run {step} 0", "ended"]
    await harness.logged(*attempt, *attempt)
    assert {reason} == {each.conditions["Deployed"].reason for each in reports[first:]}


async def test_the_first_attempt_without_the_fault_is_reported(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third attempt connects and does not fail: after some seconds that is shown."""
    monkeypatch.setattr(running_source, "PROVEN_SECONDS", 0.2)
    await harness.put(step="connect")
    await harness.reported("Deployed", "NotFound")
    await harness.reported("Deployed", "Connecting")
    await harness.logged(*["run connect 0", "ended"] * 2, "run connect 0")


async def test_a_defect_of_an_adapter_does_not_show_its_values(harness: Harness) -> None:
    """The others run."""
    await harness.put(step="break")
    message = await harness.reported("Deployed", "AdapterFailed")
    assert "KeyError" in message
    assert "a defect" not in message
    await harness.put(uid="other", number=7)
    await harness.logged("run wait 7")


@pytest.mark.parametrize(
    ("adapter", "fields", "reason", "words"),
    [
        ("steps", {"wrong": 1}, "InvalidConfiguration", "wrong: Extra inputs are not permitted"),
        ("steps", {"number": "x"}, "InvalidConfiguration", "number: Input should be a valid"),
        ("unknown", {}, "UnknownAdapter", "has no adapter unknown"),
        ("absent", {}, "AdapterNotFound", "no_such_module"),
        ("sdk", {}, "LibraryMissing", "install headrace[sources-x]"),
    ],
)
async def test_what_cannot_be_run_says_what_to_do(
    harness: Harness, adapter: str, fields: Mapping[str, Any], reason: str, words: str
) -> None:
    """Within seconds."""
    await harness.put(adapter, **fields)
    assert words in await harness.reported("Deployed", reason)


async def test_one_process_runs_it_while_it_has_the_lease(harness: Harness) -> None:
    """Release waits until the adapter has ended."""
    await harness.put()
    await harness.put("every", uid="e", number=3)
    await wait_until_async(lambda: len(StepsSource.log) == 2, 10.0, what="both run")
    harness.leases.held = False
    await harness.leases.listener.on_released()
    assert StepsSource.log.count("ended") == 1
    assert set(harness.sources.running) == {"e"}
    harness.leases.held = True
    harness.leases.listener.on_acquired()
    await harness.logged("ended", "run wait 0")


async def test_of_those_that_every_process_runs_one_leads(harness: Harness) -> None:
    """A lost lease starts it again, and it waits."""
    await harness.put("every", step="lead")
    await harness.logged("run lead 0", "leads")
    [running] = harness.sources.running.values()
    assert running.state.conditions["Registered"].status is True
    assert running.published == {"registration": "1"}
    harness.leases.held = False
    await harness.leases.listener.on_released()
    await harness.logged("leads", "ended", "run lead 0")
    assert "Registered" not in running.state.conditions, "that is the next process's to say"
    assert running.published == {}
    harness.leases.held = True
    harness.leases.listener.on_acquired()
    await harness.logged("run lead 0", "leads")


async def test_a_secret_that_changes_starts_the_source_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its value is read again; a key that is missing is named, with those that are there."""
    monkeypatch.setattr("headrace_sources.secrets.CHECK_SECONDS", 0.05)
    await harness.secrets.start()
    try:
        await harness.put(step="secret")
        await harness.logged("run secret 0", "first")
        harness.vault.data, harness.vault.version = {"value": b"second"}, "2"
        await harness.logged("ended", "run secret 0", "second")
        harness.vault.data, harness.vault.version = {"other": b"x"}, "3"
        message = await harness.reported("Deployed", "SecretNotFound")
        assert message == "Secret default/one has no key value; its keys: other"
        harness.vault.data, harness.vault.version = {"value": b"third"}, "4"
        await harness.logged("run secret 0", "third")
    finally:
        await harness.secrets.stop()


async def test_a_source_that_ends_is_not_started_again(harness: Harness) -> None:
    """Until its configuration is changed."""
    route = await harness.put(step="end")
    await harness.logged("run end 0", "ended")
    await harness.reported("Deployed", "")
    await harness.write(replace(route, config={"step": "end", "number": 1}, generation=2))
    await harness.logged("run end 0", "ended", "run end 1", "ended")


async def test_a_resource_that_is_deleted_is_finalized(harness: Harness) -> None:
    """Tried again until it works, and then reported."""
    route = await harness.put()
    await harness.logged("run wait 0")
    await harness.write(replace(route, config={"step": "fail"}, finalizing=True, sink=None))
    await harness.logged("run wait 0", "ended", "finalize", "finalize")
    assert (report := harness.report()) is not None
    assert not report.finalized
    await harness.write(replace(route, finalizing=True, sink=None, generation=2))
    await wait_until_async(
        lambda: (report := harness.report()) is not None and report.finalized,
        10.0,
        what="it is finalized",
    )


async def test_a_paused_source_is_stopped_and_keeps_its_cursor(harness: Harness) -> None:
    """One that is deleted does not."""
    route = await harness.put()
    await harness.logged("run wait 0")
    await harness.leases.save_cursor("s", "here")
    await harness.write(replace(route, paused=True))
    await harness.logged("run wait 0", "ended")
    await harness.write(route)
    await harness.logged("ended", "run wait 0")
    assert harness.leases.cursor("s") == "here"
    await harness.remove(route)
    await harness.logged("run wait 0", "ended")
    await wait_until_async(
        lambda: harness.leases.cursor("s") is None, 10.0, what="the cursor is dropped"
    )


async def test_the_log_names_a_source_whose_cursor_cannot_be_dropped(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resource is gone: its uid alone says nothing to an operator."""

    async def unavailable(uid: str, cursor: str | None) -> None:
        raise LogUnavailable("Kafka is away")

    route = await harness.put()
    await harness.logged("run wait 0")
    await harness.leases.save_cursor("s", "here")
    monkeypatch.setattr(harness.leases, "save_cursor", unavailable)
    with capture_logs() as logs:
        await harness.remove(route)
        await wait_until_async(
            lambda: any(each["event"] == "cursor_not_removed" for each in logs),
            10.0,
            "it is logged",
        )
    [event] = [each for each in logs if each["event"] == "cursor_not_removed"]
    assert ("K", "default", "s") == (event["kind"], event["namespace"], event["name"])
