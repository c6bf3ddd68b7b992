"""Events are checked against the schemas of the routing table where it asks for that."""

import json
import sys
from typing import Any

import pytest

from headrace.codec import routing
from headrace.domain.record import Record
from headrace.domain.routing import EventSchema, SchemaValidation, route_key
from headrace_ingress.ingress import load_schema_compiler
from headrace_ingress.schema_checks import CompiledSchemas, SchemaChecks
from tests.unit.ingress.harness import ATTRIBUTES, IngressHarness, ingress_harness, request, talk

TARGET = b"/shop/checked"
JSON_DATA = (*ATTRIBUTES, (b"Content-Type", b"application/json; charset=utf-8"))
TOTAL = {"properties": {"total": {"minimum": 1}}, "required": ["total"]}


def schema(uid: str = "s", document: Any = TOTAL, **fields: Any) -> EventSchema:
    """A schema of `order.placed` at the addressable `checked`."""
    fields.setdefault("type", "order.placed")
    return EventSchema(
        uid=uid,
        generation=1,
        epoch=1,
        namespace="shop",
        name=f"type-{uid}",
        addressable="checked",
        schema=json.dumps(document),
        **fields,
    )


def add(running: IngressHarness, *schemas: EventSchema, mode: SchemaValidation) -> None:
    """Write an addressable with these schemas."""
    for each in schemas:
        running.routes.append(route_key(each), routing.write(each))
    running.add("checked", validation=mode)


async def post(running: IngressHarness, raw: bytes) -> tuple[int, dict[str, Any]]:
    """Send a request; status and problem document."""
    answer = await talk(running.ingress.port, raw)
    body = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]), json.loads(body) if body else {}


def structured(*events: dict[str, Any]) -> bytes:
    """A request with one event, or a batch."""
    given = [{"specversion": "1.0", "id": "1", "source": "/s", **each} for each in events]
    batch = len(given) > 1
    kind = b"application/cloudevents" + (b"-batch" if batch else b"") + b"+json"
    body = json.dumps(given if batch else given[0]).encode()
    return request(body, target=TARGET, fields=((b"Content-Type", kind),))


async def test_enforced_data_is_refused_with_path_and_rule() -> None:
    """In binary, structured and batch mode; nothing of a batch is stored."""
    async with ingress_harness() as running:
        add(running, schema(), mode=SchemaValidation.ENFORCE)
        good, bad = b'{"total":2}', b'{"total":0}'
        assert 202 == (await post(running, request(good, target=TARGET, fields=JSON_DATA)))[0]
        status, problem = await post(running, request(bad, target=TARGET, fields=JSON_DATA))
        assert 400 == status
        assert {
            "type": "urn:headrace:problem:nonconforming-data",
            "title": "The data does not conform to the schema of its type",
            "status": 400,
            "detail": "type order.placed: /total does not satisfy minimum 1"
            " (schema of EventType shop/type-s)",
            "attribute": "data",
            "eventType": "order.placed",
            "path": "/total",
            "rule": "minimum",
            "schemaPath": "/properties/total/minimum",
            "schema": "shop/type-s",
        } == problem
        event = {"type": "order.placed", "data": {"total": 2}}
        assert 202 == (await post(running, structured(event)))[0]
        status, problem = await post(running, structured({**event, "data": {}}))
        assert (400, "", "required") == (status, problem["path"], problem["rule"])
        accepted = running.metric("headrace_ingress_events_accepted_total", name="checked")
        status, problem = await post(running, structured(event, {**event, "data": {"total": 0}}))
        assert (400, 1, "/total") == (status, problem["index"], problem["path"])
        assert (
            accepted
            == running.metric("headrace_ingress_events_accepted_total", name="checked")
            == 2
        )
        assert 0 < running.metric(
            "headrace_ingress_refused_total", name="checked", reason="nonconforming-data"
        )


async def test_data_of_another_media_type_is_not_json() -> None:
    """The schema describes JSON; without a media type data is read as JSON."""
    async with ingress_harness() as running:
        add(running, schema(), mode=SchemaValidation.ENFORCE)
        text = (*ATTRIBUTES, (b"Content-Type", b"text/plain"))
        status, problem = await post(running, request(b"hi", target=TARGET, fields=text))
        assert (400, "datacontenttype") == (status, problem["attribute"])
        assert "datacontenttype text/plain is not JSON" in problem["detail"]
        assert 202 == (await post(running, request(b'{"total":2}', target=TARGET)))[0]
        status, problem = await post(running, request(b"", target=TARGET))
        assert (400, "json") == (status, problem["rule"])
        other = (*ATTRIBUTES[:3], (b"ce-type", b"other"), text[-1])
        assert 202 == (await post(running, request(b"hi", target=TARGET, fields=other)))[0]


async def test_a_warning_accepts_counts_and_reports() -> None:
    """The newest fault is part of the reports to the controller."""
    async with ingress_harness() as running:
        add(running, schema(), mode=SchemaValidation.WARN)
        assert 202 == (await post(running, request(b"{}", target=TARGET)))[0]
        event = {"type": "order.placed", "data": {"total": 0}}
        assert 202 == (await post(running, structured(event, event)))[0]
        assert 3 == running.metric("headrace_ingress_schema_warnings_total", name="checked")
        fault = running.ingress._current_schema_faults()["checked"]
        assert "type order.placed: /total does not satisfy minimum 1" in fault
        running.add("checked", validation=SchemaValidation.ENFORCE)
        assert 400 == (await post(running, request(b"{}", target=TARGET)))[0]
        assert {} == running.ingress._current_schema_faults()


async def test_off_checks_nothing_and_a_change_takes_effect() -> None:
    """Schemas come, change and go with their records."""
    async with ingress_harness() as running:
        bad = request(b'{"total":0}', target=TARGET)
        add(running, schema(), mode=SchemaValidation.OFF)
        assert 202 == (await post(running, bad))[0]
        route = running.ingress._receiver.route_cache.find(TARGET, b"localhost")
        assert route is not None and route.plain and route.checks is None
        add(running, mode=SchemaValidation.ENFORCE)
        assert 400 == (await post(running, bad))[0]
        add(running, schema(document={}), mode=SchemaValidation.ENFORCE)
        assert 202 == (await post(running, bad))[0]
        add(running, schema(), mode=SchemaValidation.ENFORCE)
        assert 400 == (await post(running, bad))[0]
        running.routes.append("schema/s", None)
        assert 202 == (await post(running, bad))[0]


async def test_a_schema_that_cannot_be_compiled_here_is_not_applied() -> None:
    """The controller accepted it, so another version is at work: events must not be refused."""
    async with ingress_harness() as running:
        add(running, schema(document={"type": "record"}), mode=SchemaValidation.ENFORCE)
        for _ in range(2):
            assert 202 == (await post(running, request(b"1", target=TARGET)))[0]


def failing(record: Record, *schemas: EventSchema) -> str | None:
    """The name of the schema that a record fails, None if it conforms."""
    failure = SchemaChecks(schemas, CompiledSchemas(load_schema_compiler)).failure_of(record)
    return None if failure is None else failure.schema.name


def record(source: str = "/a/1", dataschema: str | None = None) -> Record:
    """An event whose data is 1."""
    headers = [("ce_type", b"t"), ("ce_source", source.encode())]
    if dataschema is not None:
        headers.append(("ce_dataschema", dataschema.encode()))
    return Record(None, b"1", headers)


NEVER: Any = {"not": {}}


@pytest.mark.parametrize(
    ("source", "matches"),
    [
        ("/a/1", True),
        ("/a/2", False),
        ("/{x}/1", True),
        ("{x}", True),
        ("/a/{n}/b", False),
        ("/a/{n}{m}", True),
        ("/a/1{n}1", False),
        ("/a{", False),
    ],
)
def test_a_schema_is_for_its_source(source: str, matches: bool) -> None:
    """Parts in braces stand for any text."""
    assert matches is (
        failing(record(), schema(document=NEVER, type="t", source=source)) is not None
    )


def test_the_most_specific_schema_applies() -> None:
    """By `dataschema`, then by source; where several are left, one of them is sufficient."""
    anywhere = schema("any", NEVER, type="t")
    here = schema("here", {}, type="t", source="/a/{n}")
    newer = schema("newer", NEVER, type="t", dataschema="http://x/2")
    assert "type-any" == failing(record(), anywhere)
    assert failing(record(), anywhere, here) is None
    assert "type-any" == failing(record("/b"), anywhere, here)
    assert "type-newer" == failing(record(dataschema="http://x/2"), anywhere, here, newer)
    assert failing(record(dataschema="http://x/3"), anywhere, here, newer) is None
    assert failing(record(), anywhere, schema("b", {}, type="t")) is None


def test_the_validator_is_not_imported_before_a_schema_is_needed() -> None:
    """An ingress without schemas does not have it in memory."""
    import subprocess

    code = "import sys, headrace_ingress.app; print('jsonschema_rs' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False" == found.stdout.strip()
