"""CamelSources from a manifest to a subscriber, with Apache Camel itself, and what is left of them
when the service is killed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support.camel import camel_processes, needs_camel
from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.installations import installation
from tests.support.manifests import broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/sources/camel/files.yaml"
NAMESPACE = "default"
SECONDS = 90.0
"""The first test on a machine fetches Camel."""
pytestmark = [
    pytest.mark.timeout(300),
    needs_camel,
]


@pytest.fixture(
    scope="module", params=[pytest.param("apache", marks=pytest.mark.kafka), "embedded"]
)
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """`headrace up`, which runs Camel, and separate processes, which are allowed to."""
    directory = tmp_path_factory.mktemp("camel")
    env = {"HEADRACE_SOURCES_CAMEL": "true"} if request.param == "apache" else {}
    with installation(request.param, request, directory, env=env, sources=1) as started:
        yield started


def camel(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A CamelSource."""
    return {
        "apiVersion": "sources.headrace.dev/v1alpha1",
        "kind": "CamelSource",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_example(headrace: HeadraceUnderTest, tmp_path: Path) -> None:
    """A file becomes an event of a Broker, and so does the tick of a CamelSource of Knative 0.5."""
    name = "example"
    headrace.sinks.script(name, Script(record=True))
    headrace.establish(broker(NAMESPACE, "default"))
    headrace.establish(trigger(NAMESPACE, name, headrace.sinks.url(name), broker="default"))
    files, ticks = yaml.safe_load_all(EXAMPLE.read_text())
    files["spec"]["properties"]["directory"] = str(tmp_path)
    for each in (files, ticks):
        each["metadata"]["namespace"] = NAMESPACE
        headrace.apply(each)
        headrace.wait_ready(each, seconds=SECONDS)
    (tmp_path / "order.txt").write_text("one loaf")

    def received(kind: str) -> list[Any]:
        found = headrace.sinks.requests(name)
        return [each for each in found if each.headers["ce-type"] == kind]

    wait_until(lambda: received("com.example.file"), 30, "the file arrives")
    (event,) = received("com.example.file")
    assert (event.body, event.headers["ce-subject"]) == (b"one loaf", "order.txt")
    wait_until(lambda: received("org.apache.camel.event"), 30, "a tick arrives")
    tick = received("org.apache.camel.event")[0]
    assert tick.headers["ce-source"] == f"/apis/v1/namespaces/{NAMESPACE}/camelsources/ticks"
    status = (headrace.get(ticks) or {})["status"]
    assert status["sinkUri"] == f"{headrace.ingress_url}/{NAMESPACE}/default"
    assert (headrace.get(ticks) or {})["spec"]["sink"]["name"] == "default"
    headrace.delete(files, ticks)
    wait_until(lambda: not camel_processes(), 20, "no Camel is left")


def test_what_is_wrong_is_a_condition(headrace: HeadraceUnderTest) -> None:
    """Within seconds, and the source works once it is corrected."""
    name = "wrong"
    headrace.sinks.script(name, Script(record=True))
    sink = {"uri": headrace.sinks.url(name)}
    source = camel(name, {"uri": "tiemr:tick", "sink": sink})
    headrace.apply(source)

    def is_named() -> bool:
        found = condition(headrace.get(source) or {}, "Deployed")
        return found.get("reason") == "UnknownComponent"

    wait_until(is_named, SECONDS, "the component is named")
    ready = condition(headrace.get(source) or {}, "Ready")
    assert "has no component tiemr: did you mean timer" in ready["message"]
    source["spec"]["uri"] = "timer:tick?period=100"
    headrace.establish(source)
    wait_until(lambda: headrace.sinks.requests(name), 30, "events arrive")
    headrace.delete(source)


def test_nothing_is_left_when_the_service_is_killed(
    headrace: HeadraceUnderTest, tmp_path: Path
) -> None:
    """And what the outside still has arrives after its restart."""
    name = "killed"
    headrace.sinks.script(name, Script(status=503))
    uri = f"file:{tmp_path}?delay=200&initialDelay=0"
    source = camel(name, {"uri": uri, "sink": {"uri": headrace.sinks.url(name)}})
    headrace.establish(source)
    (tmp_path / "order.txt").write_text("one loaf")
    wait_until(lambda: headrace.sinks.counts(name).get("requests", 0), 30, "it is tried")
    service = "sources-0" if "sources-0" in headrace.services else "up"
    running = camel_processes()
    assert running
    headrace.services[service].kill()
    wait_until(lambda: not any(map(_is_alive, running)), 20, "Camel ends too")
    assert (tmp_path / "order.txt").exists()
    if service == "up":
        return  # Its resources were in its memory.
    headrace.sinks.script(name, Script(record=True))
    headrace.run_with(
        service, ["--port", "0", "--instance", service, *headrace.options_of_sources()]
    )
    headrace.wait_until_ready(service)
    wait_until(lambda: headrace.sinks.requests(name), 60, "the file arrives")
    assert headrace.sinks.requests(name)[0].body == b"one loaf"
    headrace.delete(source)
