"""Kinds of sources that an operator brings: what the controller does with their events' types."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.domain.ports import Instance
from headrace.domain.routing import EventSource
from headrace.domain.source_report import SourceCondition, SourceReport
from headrace.resources.kinds import EVENT_TYPE
from headrace.resources.resource import Resource, ResourceKind
from headrace_controller.custom_sources import InvalidSourceDefinition, with_custom_sources
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.observed_state import SOURCES
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, manifest, settled

EXAMPLE = Path(__file__).parents[3] / "examples" / "sources" / "custom" / "crd.yaml"
EVENT_TYPES = "registry.knative.dev/eventTypes"
KIND = ResourceKind(
    group="example.com",
    version="v1",
    kind="WeatherSource",
    plural="weathersources",
    singular="weathersource",
    categories=("all", "sources"),
)
SINK = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}


def definition(directory: Path, event_types: str | None) -> Path:
    """The CRD of the example with this annotation."""
    document = yaml.safe_load(EXAMPLE.read_text())
    annotations = document["metadata"]["annotations"]
    annotations.pop(EVENT_TYPES)
    if event_types is not None:
        annotations[EVENT_TYPES] = event_types
    file = directory / "crd.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


async def weather(file: Path) -> ControllerHarness:
    """An installation with one source of the kind."""
    harness = await settled(
        broker(),
        reconcilers=with_custom_sources(RECONCILERS, [file]),
        services=("ingress", "dispatcher", SOURCES),
    )
    # The schema is the CRD's, which the API of these tests does not serve.
    source = manifest(KIND, "lisbon", spec={"city": "Lisbon", "sink": SINK})
    await harness.store.create(source)
    await harness.settle()
    return harness


async def publish(harness: ControllerHarness, attributes: object) -> None:
    """What the adapter does with `context.publish(ceAttributes=...)`."""
    [route] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
    report = SourceReport(
        route.generation, {"Deployed": SourceCondition(True)}, {"ceAttributes": attributes}
    )
    applied = len(harness.routing.records) - 1
    await harness.instances.report(
        Instance(SOURCES, SOURCES, applied, 0, sources={route.uid: report})
    )
    for _ in range(4):
        await harness.loop.run_once()


def event_types(harness: ControllerHarness) -> Sequence[Resource]:
    """The EventTypes that exist."""
    return harness.store.list(EVENT_TYPE, NAMESPACE)


async def test_types_of_the_definition_become_event_types() -> None:
    """Of the example. Their source is not known, so nothing is claimed about it."""
    harness = await weather(EXAMPLE)
    assert harness.status(KIND, "lisbon")["ceAttributes"] == [{"type": "com.example.weather"}]
    [found] = event_types(harness)
    assert found.spec["type"] == "com.example.weather"
    assert "source" not in found.spec
    [origin] = [each for each in found.spec["attributes"] if each["name"] == "source"]
    assert "value" not in origin
    assert found.spec["reference"] == {**SINK["ref"], "namespace": NAMESPACE}
    assert [each["kind"] for each in found.metadata["ownerReferences"]] == ["WeatherSource"]


async def test_types_that_the_adapter_publishes_become_event_types(tmp_path: Path) -> None:
    """With their source; what it publishes later is added."""
    harness = await weather(definition(tmp_path, None))
    assert "ceAttributes" not in harness.status(KIND, "lisbon")
    assert not event_types(harness)
    rain = {"type": "com.example.rain", "source": "/weather/lisbon"}
    await publish(harness, [rain])
    assert harness.status(KIND, "lisbon")["ceAttributes"] == [rain]
    [found] = event_types(harness)
    assert (found.spec["type"], found.spec["source"]) == (rain["type"], rain["source"])
    wind = {"type": "com.example.wind", "source": "/weather/lisbon"}
    await publish(harness, [rain, wind])
    assert {rain["type"], wind["type"]} == {each.spec["type"] for each in event_types(harness)}


@pytest.mark.parametrize(
    "attributes",
    ["x", 1, {"a": "b"}, [1], [{"type": [1], "source": "/s"}], [{"type": "", "source": "/s"}]],
)
async def test_what_is_published_is_read_with_care(tmp_path: Path, attributes: Any) -> None:
    """An adapter is a user's own code: the types of the definition are used."""
    harness = await weather(definition(tmp_path, '[{"type": "com.example.known"}]'))
    await publish(harness, attributes)
    assert harness.status(KIND, "lisbon")["ceAttributes"] == [{"type": "com.example.known"}]


@pytest.mark.clause("O5")
async def test_schema_and_description_of_the_definition_are_in_the_event_types(
    tmp_path: Path,
) -> None:
    """By type, as in Knative: also of a type that the adapter publishes with its source."""
    rain = {
        "type": "com.example.rain",
        "schema": "http://schemas.example/rain.json",
        "description": "It has begun to rain.",
    }
    plain = {"type": "com.example.wind"}
    harness = await weather(definition(tmp_path, json.dumps([rain, plain])))
    found = {each.spec["type"]: each.spec for each in event_types(harness)}
    of_rain = found["com.example.rain"]
    assert (of_rain["schema"], of_rain["description"]) == (rain["schema"], rain["description"])
    assert {"name": "schemadata", "required": True, "value": rain["schema"]} in of_rain[
        "attributes"
    ]
    assert "schema" not in found["com.example.wind"]
    assert found["com.example.wind"]["description"].startswith("Event Type sent by WeatherSource")
    await publish(harness, [{"type": "com.example.rain", "source": "/weather/lisbon"}])
    [left] = event_types(harness)
    assert left.spec["source"] == "/weather/lisbon"
    assert (left.spec["schema"], left.spec["description"]) == (rain["schema"], rain["description"])


async def test_another_definition_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """After a restart of the controller, the status and the EventTypes are as it says. What a user
    has added to an EventType stays.
    """
    kept = {"type": "com.example.kept", "schema": "http://s.example/1", "description": "Kept."}
    old = {"type": "com.example.old"}
    harness = await weather(definition(tmp_path, json.dumps([kept, old])))
    [before] = [each for each in event_types(harness) if each.spec["type"] == kept["type"]]
    users = {**before.object, "spec": {**before.spec, "schemaData": "{}"}}
    await harness.store.replace(Resource(EVENT_TYPE, users))
    new = {"type": "com.example.new", "schema": "http://s.example/", "description": "New."}
    changed = {**kept, "schema": "http://s.example/2"}
    file = definition(tmp_path, json.dumps([changed, new]))
    harness.reconcilers = with_custom_sources(RECONCILERS, [file])
    await harness.restart()
    await harness.settle()
    types = [{"type": each["type"]} for each in (changed, new)]
    assert harness.status(KIND, "lisbon")["ceAttributes"] == types
    found = {each.spec["type"]: each.spec for each in event_types(harness)}
    assert set(found) == {"com.example.kept", "com.example.new"}
    assert found["com.example.kept"]["schema"] == "http://s.example/2"
    assert found["com.example.kept"]["schemaData"] == "{}"
    del changed["schema"], changed["description"]
    harness.reconcilers = with_custom_sources(
        RECONCILERS, [definition(tmp_path, json.dumps([changed]))]
    )
    await harness.restart()
    await harness.settle()
    [left] = event_types(harness)
    assert "schema" not in left.spec
    assert left.spec["description"] == "Event Type sent by WeatherSource shop/lisbon"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", " is a JSON list of objects"),
        ("{}", " is a JSON list of objects"),
        ("[1", " is a JSON list of objects"),
        ('["x"]', "[0].type is a text of at most 2048 characters; every entry needs one"),
        ('[{"type": "a"}, {"type": ""}]', "[1].type is a text"),
        ('[{"schema": "s"}]', "[0].type is a text"),
        ('[{"type": "a", "schema": {"type": "object"}}]', "[0].schema is a text"),
        ('[{"type": "a", "description": 1}]', "[0].description is a text of at most 32768"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    """With the file, the annotation and the place."""
    with pytest.raises(InvalidSourceDefinition) as raised:
        with_custom_sources(RECONCILERS, [definition(tmp_path, text)])
    assert re.match(r".*crd\.yaml.*\[registry\.knative\.dev/eventTypes\]", str(raised.value))
    assert said in str(raised.value)
