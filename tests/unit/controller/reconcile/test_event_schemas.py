"""Schemas of EventTypes become records of the routing table where a Broker or channel asks for
checks, and statuses say what came of it.
"""

import asyncio
import json
from typing import Any

import pytest

from headrace.domain.errors import Permanent, Temporary
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.routing import EventSchema, SchemaValidation
from headrace.resources.event_type import AUTO_CREATED
from headrace.resources.kinds import BROKER, CHANNEL, EVENT_TYPE, KAFKA_CHANNEL
from headrace.resources.resource import Resource
from tests.unit.controller.harness import ControllerHarness, broker, manifest, trigger
from tests.unit.controller.reconcile.test_event_types import see, uid

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
VALIDATION = "headrace.dev/schema-validation"
ABOUT_BROKER = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
SCHEMA = {"required": ["total"]}


def event_type(name: str = "e", **spec: Any) -> Resource:
    """An EventType about the Broker."""
    spec.setdefault("type", "t")
    spec.setdefault("reference", ABOUT_BROKER)
    return manifest(EVENT_TYPE, name, spec=spec)


async def site(mode: str = "enforce", **fields: Any) -> ControllerHarness:
    """An installation with a Broker that asks for checks."""
    made = ControllerHarness(**fields)
    await made.restart()
    await made.apply(broker(annotations={VALIDATION: mode}), trigger())
    await made.settle()
    return made


def schemas(harness: ControllerHarness) -> list[EventSchema]:
    """Those in the routing table."""
    return [each for each in harness.routes().values() if isinstance(each, EventSchema)]


async def test_a_schema_becomes_a_record_where_it_is_asked_for() -> None:
    """The record names type, source, dataschema and the addressable; the status says that it is in
    effect once all processes have read it.
    """
    harness = await site()
    text = json.dumps(SCHEMA, indent=2)
    spec = {"schemaData": text, "source": "/s", "schema": "urn:x"}
    await harness.apply(event_type(**spec))
    harness.applies = False
    for _ in range(4):
        await harness.run_once()
    assert (UNKNOWN, "RoutingRecordNotApplied") == harness.condition(
        EVENT_TYPE, "e", "SchemaInEffect"
    )
    assert TRUE == harness.condition(EVENT_TYPE, "e")[0], "it does not affect Ready"
    harness.applies = True
    await harness.report()
    await harness.settle()
    assert (TRUE, "") == harness.condition(EVENT_TYPE, "e", "SchemaInEffect")
    assert "enforce" == harness.status(EVENT_TYPE, "e")["validation"]
    [found] = schemas(harness)
    assert ("t", "/s", "urn:x", '{"required":["total"]}') == (
        found.type,
        found.source,
        found.dataschema,
        found.schema,
    )
    assert uid(harness, BROKER, "default") == found.addressable
    assert (TRUE, "Enforced") == harness.condition(BROKER, "default", "SchemaValidation")
    [route] = [each for each in harness.routes().values() if hasattr(each, "validation")]
    assert route.validation is SchemaValidation.ENFORCE


async def test_without_the_annotation_there_is_nothing() -> None:
    """No record, no condition; the status says that it is off."""
    harness = await site("off")
    await harness.apply(event_type(schemaData=json.dumps(SCHEMA)), event_type("without"))
    await harness.settle()
    assert [] == schemas(harness)
    assert "off" == harness.status(EVENT_TYPE, "e")["validation"]
    assert "validation" not in harness.status(EVENT_TYPE, "without")
    assert ("", "") == harness.condition(EVENT_TYPE, "e", "SchemaInEffect")
    assert ("", "") == harness.condition(BROKER, "default", "SchemaValidation")


@pytest.mark.parametrize("way", ["annotation", "delete", "schema"])
async def test_what_does_not_apply_any_longer_is_removed(way: str) -> None:
    """With the annotation, the EventType or its schema."""
    harness = await site()
    await harness.apply(event_type(schemaData=json.dumps(SCHEMA)))
    await harness.settle()
    assert 1 == len(schemas(harness))
    if way == "annotation":
        await harness.apply(broker())
    elif way == "delete":
        await harness.delete(EVENT_TYPE, "e")
    else:
        await harness.apply(event_type())
    await harness.settle()
    assert [] == schemas(harness)


async def test_an_invalid_schema_is_a_condition_and_the_last_valid_one_stays() -> None:
    """On the EventType and, with its name, on the Broker; both stay Ready."""
    harness = await site()
    await harness.apply(event_type(schemaData=json.dumps(SCHEMA)))
    await harness.settle()
    before = schemas(harness)
    await harness.apply(event_type(schemaData="{"), event_type("f", schemaData='{"type":"record"}'))
    await harness.settle()
    assert before == schemas(harness)
    assert (FALSE, "InvalidSchema") == harness.condition(EVENT_TYPE, "e", "SchemaInEffect")
    assert "spec.schemaData: not JSON" in harness.message(EVENT_TYPE, "e", "SchemaInEffect")
    assert (FALSE, "SchemaNotUsable") == harness.condition(BROKER, "default", "SchemaValidation")
    message = harness.message(BROKER, "default", "SchemaValidation")
    assert "EventType e: spec.schemaData" in message and "EventType f:" in message
    assert (TRUE, TRUE) == (
        harness.condition(BROKER, "default")[0],
        harness.condition(EVENT_TYPE, "e")[0],
    )


async def test_a_schema_behind_a_url_is_fetched_once() -> None:
    """A failure is a condition, and tried again later; a permanent one is not."""
    asked: list[str] = []
    answers: dict[str, Any] = {
        "http://x/s": Temporary("status 503"),
        "http://x/no": Permanent("no"),
    }

    async def fetch(url: str) -> bytes:
        asked.append(url)
        if isinstance(answers[url], Exception):
            raise answers[url]
        return json.dumps(answers[url]).encode()

    harness = await site(fetch_schema=fetch)
    await harness.apply(event_type(schema="http://x/s"), event_type("no", schema="http://x/no"))
    await harness.run_once()
    assert (UNKNOWN, "SchemaNotRead") == harness.condition(EVENT_TYPE, "e", "SchemaInEffect")
    await harness.settle()
    assert (FALSE, "SchemaNotFetched") == harness.condition(EVENT_TYPE, "e", "SchemaInEffect")
    assert "http://x/s: status 503" == harness.message(EVENT_TYPE, "e", "SchemaInEffect")
    assert sorted(answers) == sorted(asked)
    answers["http://x/s"] = SCHEMA
    assert not harness.loop.observer.has_process_changes()
    harness.clock.advance(10.0)
    await harness.report()
    assert harness.loop.observer.has_process_changes()
    await harness.run_once()
    await asyncio.sleep(0)  # The fetch is a task.
    assert harness.loop.observer.has_process_changes()
    await harness.settle()
    assert (TRUE, "") == harness.condition(EVENT_TYPE, "e", "SchemaInEffect")
    harness.clock.advance(1_000.0)
    await harness.report()
    await harness.settle()
    assert ["http://x/no", "http://x/s", "http://x/s"] == sorted(asked)
    [found] = schemas(harness)
    assert ("http://x/s", '{"required":["total"]}') == (found.dataschema, found.schema)


async def test_a_warning_shows_what_the_ingress_reports() -> None:
    """With the newest path, as long as it is reported."""
    harness = await site("warn")
    await harness.apply(event_type(schemaData=json.dumps(SCHEMA)))
    await harness.settle()
    assert (TRUE, "Warned") == harness.condition(BROKER, "default", "SchemaValidation")
    harness.schema_faults = {uid(harness, BROKER, "default"): "type t: /total is wrong"}
    await harness.report()
    assert harness.loop.observer.has_process_changes()
    await harness.run_once()
    await harness.settle()
    assert (FALSE, "NonconformingData") == harness.condition(BROKER, "default", "SchemaValidation")
    assert "/total is wrong" in harness.message(BROKER, "default", "SchemaValidation")
    harness.schema_faults = {}
    await harness.report()
    await harness.settle()
    assert (TRUE, "Warned") == harness.condition(BROKER, "default", "SchemaValidation")


async def test_a_channel_is_annotated_where_a_user_sees_it() -> None:
    """The Channel's annotation applies to the object behind it, and its condition is shown on the
    Channel.
    """
    harness = ControllerHarness()
    await harness.restart()
    channel = {"apiVersion": CHANNEL.api_version, "kind": "Channel", "name": "c"}
    await harness.apply(
        manifest(CHANNEL, "c", spec={}, annotations={VALIDATION: "warn"}),
        event_type(reference=channel, schemaData=json.dumps(SCHEMA)),
    )
    await harness.settle()
    [found] = schemas(harness)
    assert uid(harness, KAFKA_CHANNEL, "c") == found.addressable
    for kind in (KAFKA_CHANNEL, CHANNEL):
        assert (TRUE, "Warned") == harness.condition(kind, "c", "SchemaValidation")


async def test_a_schema_that_a_sender_named_is_not_used() -> None:
    """An EventType that was created from traffic has the `dataschema` of an event: nothing is
    fetched from there. Neither are EventTypes of replies checked.
    """
    asked: list[str] = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return b"{}"

    harness = await site(fetch_schema=fetch)
    annotations = {VALIDATION: "enforce", "headrace.dev/eventtype-auto-create": "enabled"}
    await harness.apply(broker(annotations=annotations))
    await harness.settle()
    seen = ObservedEventType(uid(harness, BROKER, "default"), "t", "/s", "http://x/evil")
    await see(harness, seen)
    await harness.run_once()
    replies = {"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "name": "orders"}
    await harness.apply(event_type(reference=replies, schema="http://x/replies"))
    await harness.settle()
    made = [each for each in harness.store.list(EVENT_TYPE) if each.name != "e"]
    assert [AUTO_CREATED] == [each.spec["description"] for each in made]
    assert ([], []) == (asked, schemas(harness))
