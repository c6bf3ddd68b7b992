"""Sources from an applied manifest to the event at a subscriber, wherever the resources are: what
every kind has in common, shown with PingSources that an adapter of the tests runs.
"""

import base64
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_legacy import kubectl
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.installations import EVERYWHERE, installation
from tests.support.manifests import broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "outside"
ADAPTER = {"HEADRACE_SOURCES_ADAPTERS": "ping=tests.support.counter_source:CounterSource"}
TAKE_OVER_SECONDS = 20.0
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", params=EVERYWHERE)
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """One installation for all tests here; two processes of the sources service where they are
    processes of their own.
    """
    directory = tmp_path_factory.mktemp("sources")
    with installation(request.param, request, directory, env=ADAPTER, sources=2) as started:
        yield started


def ping(name: str, sink: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A PingSource; `data` says what the adapter does."""
    annotations = more.pop("annotations", {})
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"schedule": "* * * * *", "sink": sink, **more},
    }


def to_broker(name: str) -> dict[str, Any]:
    """A sink that is a Broker."""
    return {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}}


def _bodies(headrace: HeadraceUnderTest, sink: str) -> list[bytes]:
    return [request.body for request in headrace.sinks.requests(sink)]


@pytest.mark.clause("O2", "O8")
def test_events_reach_a_broker_with_overrides(headrace: HeadraceUnderTest) -> None:
    """Straight into its topic; the status shows the sink and the kinds of events, and an EventType
    is created.
    """
    name = "counted"
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, name))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker=name))
    source = ping(name, to_broker(name), ceOverrides={"extensions": {"team": "red"}})
    headrace.establish(source)
    wait_until(lambda: len(_bodies(headrace, name)) >= 3, 20, "events arrive")
    requests = headrace.sinks.requests(name)
    assert {each.body for each in requests} >= {b"0", b"1", b"2"}
    assert requests[0].headers["ce-team"] == "red"
    assert requests[0].headers["ce-type"] == "dev.knative.sources.ping"
    status = (headrace.get(source) or {})["status"]
    origin = f"/apis/v1/namespaces/{NAMESPACE}/pingsources/{name}"
    assert status["sinkUri"] == f"{headrace.ingress_url}/{NAMESPACE}/{name}"
    assert status["ceAttributes"] == [{"type": "dev.knative.sources.ping", "source": origin}]
    assert _types_of(headrace, origin) == [name]
    headrace.delete(source)


@pytest.mark.clause("O8")
def test_event_types_follow_the_sink(headrace: HeadraceUnderTest) -> None:
    """To another Broker, and away when it is no object."""
    name = "followed"
    origin = f"/apis/v1/namespaces/{NAMESPACE}/pingsources/{name}"
    headrace.sinks.script(name, Script())
    headrace.establish(broker(NAMESPACE, name), broker(NAMESPACE, f"{name}-too"))
    source = ping(name, to_broker(name))
    headrace.establish(source)
    assert _types_of(headrace, origin) == [name]
    headrace.establish(ping(name, to_broker(f"{name}-too")))
    wait_until(lambda: _types_of(headrace, origin) == [f"{name}-too"], 20, "it refers to the other")
    headrace.establish(ping(name, {"uri": headrace.sinks.url(name)}))
    wait_until(lambda: _types_of(headrace, origin) == [], 20, "it is deleted")
    headrace.delete(source)


def _types_of(headrace: HeadraceUnderTest, origin: str) -> list[str]:
    """The Brokers of the EventTypes with this source."""
    path = f"/apis/eventing.knative.dev/v1beta2/namespaces/{NAMESPACE}/eventtypes"
    specs = [each["spec"] for each in headrace.call("GET", path)["items"]]
    return [each["reference"]["name"] for each in specs if each.get("source") == origin]


def test_a_sink_that_fails_is_tried_again_in_order(headrace: HeadraceUnderTest) -> None:
    """By HTTP, with the default policy: nothing is skipped."""
    name = "failing"
    headrace.sinks.script(name, Script(status=503, record=True))
    source = ping(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(source)
    wait_until(lambda: headrace.sinks.counts(name).get("requests", 0) >= 3, 20, "it is tried")
    assert set(_bodies(headrace, name)) <= {b"0"}
    headrace.sinks.script(name, Script(record=True))
    wait_until(lambda: b"2" in _bodies(headrace, name), 30, "events arrive")
    accepted = list(dict.fromkeys(_bodies(headrace, name)))
    assert accepted[:3] == [b"0", b"1", b"2"]
    headrace.delete(source)


def test_a_missing_sink_is_named_and_found_later(headrace: HeadraceUnderTest) -> None:
    """Nothing is read before there is one."""
    name = "later"
    source = ping(name, to_broker(name))
    headrace.apply(source)

    def shown() -> bool:
        found = condition(headrace.get(source) or {}, "SinkProvided")
        return found.get("status") == "False" and f'"{name}" not found' in found.get("message", "")

    wait_until(shown, 20, "the missing sink is named")
    headrace.establish(broker(NAMESPACE, name))
    headrace.wait_ready(source)
    headrace.delete(source)


def test_a_fault_is_a_condition_that_says_what_to_do(headrace: HeadraceUnderTest) -> None:
    """And the source works once the configuration is right."""
    name = "faulty"
    headrace.sinks.script(name, Script(record=True))
    source = ping(name, {"uri": headrace.sinks.url(name)}, data="fail")
    headrace.apply(source)

    def shown() -> bool:
        found = condition(headrace.get(source) or {}, "Ready")
        return (found.get("status"), found.get("reason")) == ("False", "Refused")

    wait_until(shown, 20, "the fault is shown")
    ready = condition(headrace.get(source) or {}, "Ready")
    assert ready["message"] == "the outside refuses; ask it nicely"
    source["spec"]["data"] = ""
    headrace.establish(source)
    wait_until(lambda: _bodies(headrace, name), 20, "events arrive")
    headrace.delete(source)


def test_a_secret_is_read_by_reference_and_again_when_it_changes(
    headrace: HeadraceUnderTest,
) -> None:
    """A missing one is named. Its value is nowhere but in the event that the adapter sends."""
    name = "secretive"
    headrace.sinks.script(name, Script(record=True))
    source = ping(name, {"uri": headrace.sinks.url(name)}, data="secret")
    headrace.apply(source)

    def named() -> bool:
        found = condition(headrace.get(source) or {}, "Ready")
        return "Secret outside/counter does not exist" in found.get("message", "")

    wait_until(named, 20, "the missing Secret is named")
    for value in (b"first", b"second"):
        data = {"value": base64.b64encode(value).decode()}
        metadata = {"name": "counter", "namespace": NAMESPACE}
        headrace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        wait_until(
            lambda value=value: value in _bodies(headrace, name),  # type: ignore[misc]
            40,
            "the value arrives",
        )
    headrace.wait_ready(source)
    headrace.delete(source)


def test_a_source_is_switched_off_and_on(headrace: HeadraceUnderTest) -> None:
    """It continues where it was."""
    name = "switched"
    headrace.sinks.script(name, Script(record=True))
    source = ping(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(source)
    wait_until(lambda: _bodies(headrace, name), 20, "events arrive")
    off = ping(name, {"uri": headrace.sinks.url(name)}, annotations={"headrace.dev/paused": "true"})
    headrace.apply(off)

    def is_off() -> bool:
        return condition(headrace.get(source) or {}, "Deployed").get("reason") == "Paused"

    wait_until(is_off, 20, "it is shown to be off")
    wait_until(lambda: not _runs(headrace, name), 20, "no process runs it")
    before = _bodies(headrace, name)
    headrace.apply(ping(name, {"uri": headrace.sinks.url(name)}))
    wait_until(lambda: len(_bodies(headrace, name)) > len(before), 20, "events arrive again")
    numbers = [int(body) for body in _bodies(headrace, name)]
    # One event may be sent again: it was on its way when the source was switched off.
    assert numbers[len(before)] in (numbers[len(before) - 1], numbers[len(before) - 1] + 1)
    headrace.delete(source)


def _runs(headrace: HeadraceUnderTest, name: str) -> list[str]:
    """The processes that run a source, by their metrics."""
    line = f'headrace_source_running{{kind="PingSource",name="{name}",namespace="{NAMESPACE}"}} 1.0'
    names = [each for each in headrace.services if each.startswith("sources")] or ["up"]
    return [
        each for each in names if headrace.services[each].running and line in headrace.metrics(each)
    ]


def test_another_process_continues_where_a_killed_one_was(headrace: HeadraceUnderTest) -> None:
    """Within seconds, and one process at a time runs it: no number is skipped, and at most the one
    that was on its way is sent twice.
    """
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and no process survives it")
    name = "lasting"
    headrace.sinks.script(name, Script(record=True))
    source = ping(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(source)
    wait_until(lambda: len(_bodies(headrace, name)) >= 3, 20, "events arrive")
    [holder] = _runs(headrace, name)
    headrace.services[holder].kill()
    before = len(_bodies(headrace, name))
    began = time.monotonic()
    wait_until(
        lambda: len(_bodies(headrace, name)) > before + 1,
        TAKE_OVER_SECONDS,
        "another process continues",
    )
    print(f"taken over after {time.monotonic() - began:.1f} s")
    [other] = _runs(headrace, name)
    assert other != holder
    numbers = [int(body) for body in _bodies(headrace, name)]
    assert sorted(set(numbers)) == list(range(max(numbers) + 1))
    assert len(numbers) - len(set(numbers)) <= 1
    headrace.run_with(holder, ["--port", "0", "--instance", holder, *headrace.options_of_sources()])
    headrace.wait_until_ready(holder)
    headrace.delete(source)


def test_a_source_stays_ready_when_it_passes_to_another_process(
    headrace: HeadraceUnderTest,
) -> None:
    """A process is stopped, and started again: its sources run elsewhere, and some come back."""
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and no process survives it")
    # Each runs in one of the two by its uid, so both run some of them.
    names = [f"passed-{n}" for n in range(16)]
    sources = [ping(name, {"uri": headrace.sinks.url(name)}) for name in names]
    for name in names:
        headrace.sinks.script(name, Script())
    headrace.establish(*sources)
    since = {name: _ready_since(headrace, name) for name in names}
    # Its times have whole seconds.
    wait_until(
        lambda: datetime.now(UTC) > max(since.values()) + timedelta(seconds=2),
        10,
        "a change would have another time",
    )
    process = headrace.services["sources-0"]
    process.stop()
    wait_until(
        lambda: all(_runs(headrace, name) == ["sources-1"] for name in names),
        TAKE_OVER_SECONDS,
        "the other process runs them",
    )
    process.start(env={})
    headrace.wait_until_ready("sources-0")
    wait_until(
        lambda: any(_runs(headrace, name) == ["sources-0"] for name in names),
        TAKE_OVER_SECONDS,
        "the first one runs some of them",
    )
    headrace.wait_ready(*sources)
    assert {name: _ready_since(headrace, name) for name in names} == since
    headrace.delete(*sources)


def _ready_since(headrace: HeadraceUnderTest, name: str) -> datetime:
    found = headrace.get(ping(name, {})) or {}
    return datetime.fromisoformat(condition(found, "Ready")["lastTransitionTime"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_lists_sources(headrace: HeadraceUnderTest, tmp_path: Path) -> None:
    """`kubectl get sources` has them all, with sink, readiness and reason."""
    name = "listed"
    headrace.sinks.script(name, Script())
    source = ping(name, {"uri": headrace.sinks.url(name)})
    headrace.establish(source)
    # With a cache of its own: kubectl expands the category by what it has discovered before, which
    # may have been before there were these kinds.
    cache = ("--cache-dir", str(tmp_path))
    shown = kubectl(headrace, "get", "sources", "-n", NAMESPACE, *cache)
    line = next(each for each in shown.splitlines() if f"/{name}" in each)
    assert line.split()[1] == headrace.sinks.url(name)
    assert "True" in line.split()
    headrace.delete(source)
