"""Schemas of EventTypes, with real Kafka and real processes: an annotation and a manifest decide
what the ingress accepts.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import urllib3
import yaml

from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.manifests import Manifest
from tests.support.processes import LOOPBACK_SUBSCRIBERS
from tests.support.wait_until import wait_until

pytestmark = pytest.mark.kafka
EXAMPLE = Path(__file__).parents[2] / "examples/event-types/event-types.yaml"
VALIDATION = "headrace.dev/schema-validation"
NAMESPACE = "types"
ATTRIBUTES = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/shop/7",
    "ce-type": "order.created",
    "content-type": "application/json",
}
GOOD, BAD = {"id": "a", "total": 1}, {"id": "a", "total": -1}


@pytest.fixture(scope="module")
def system(
    kafka: ApacheKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation with the example."""
    directory = tmp_path_factory.mktemp("types")
    own = {"controller": LOOPBACK_SUBSCRIBERS}
    running = HeadraceUnderTest(kafka.bootstrap_servers, directory, own_env=own)
    running.start()
    try:
        running.apply(*example())
        running.wait_ready(broker())
        wait_until(
            lambda: "True" == condition(running, event_type(), "SchemaInEffect").get("status"),
            60,
            "the schema is in effect",
        )
        yield running
    finally:
        running.close()


def example() -> list[Manifest]:
    """The manifests of examples/event-types, in the namespace of this test."""
    found = list(yaml.safe_load_all(EXAMPLE.read_text()))
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
    return found


def broker(mode: str = "enforce") -> Manifest:
    """The Broker of the example."""
    made = example()[0]
    made["metadata"]["annotations"] = {VALIDATION: mode}
    return made


def event_type(**spec: Any) -> Manifest:
    """The EventType of the example, with other fields."""
    made = example()[1]
    made["spec"] = {**made["spec"], **spec}
    return made


def condition(system: HeadraceUnderTest, manifest: Manifest, name: str) -> dict[str, Any]:
    """A condition of an object, empty if it has none."""
    found = system.get(manifest) or {}
    entries = found.get("status", {}).get("conditions", [])
    return next((each for each in entries if each["type"] == name), {})


def post(
    system: HeadraceUnderTest, body: bytes, headers: dict[str, str] = ATTRIBUTES
) -> tuple[int, dict[str, Any]]:
    """Send a request to the Broker; the status and the problem document."""
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        url = f"{system.ingress_url}/{NAMESPACE}/shop"
        answer = pool.request("POST", url, body=body, headers=headers)
        return answer.status, json.loads(answer.data) if answer.data else {}


def binary(system: HeadraceUnderTest, data: Any) -> int:
    """The status for an event in binary mode."""
    return post(system, json.dumps(data).encode())[0]


@pytest.mark.clause("EventTypes")
def test_the_example_refuses_what_does_not_conform(system: HeadraceUnderTest) -> None:
    """In binary, structured and batch mode, with path and rule; a refused event reaches no Trigger,
    an accepted one does.
    """
    assert 202 == binary(system, GOOD)
    status, problem = post(system, json.dumps(BAD).encode())
    assert (400, "order.created", "/total", "minimum", "data") == (
        status,
        *(problem[name] for name in ("eventType", "path", "rule", "attribute")),
    )
    assert "/total does not satisfy minimum 0" in problem["detail"]
    event = {"specversion": "1.0", "id": "2", "source": "/shop/7", "type": "order.created"}
    kind = "application/cloudevents+json"
    body = json.dumps({**event, "data": {"id": 1, "total": 1}}).encode()
    status, problem = post(system, body, {"content-type": kind})
    assert (400, "/id", "type") == (status, problem["path"], problem["rule"])
    batch = json.dumps([{**event, "data": GOOD}, {**event, "data": {}}]).encode()
    status, problem = post(system, batch, {"content-type": "application/cloudevents-batch+json"})
    assert (400, 1, "required") == (status, problem["index"], problem["rule"])
    text = {**ATTRIBUTES, "content-type": "text/plain"}
    assert "datacontenttype" == post(system, b"hi", text)[1]["attribute"]
    assert 202 == post(system, b"hi", {**text, "ce-source": "/elsewhere"})[0]


def test_the_status_names_who_gets_the_type(system: HeadraceUnderTest) -> None:
    """Yes for one Trigger, maybe for the other; and that the schema is enforced."""
    status = (system.get(event_type()) or {})["status"]
    assert [
        {"kind": "Trigger", "name": "orders", "match": "Yes"},
        {"kind": "Trigger", "name": "vip", "match": "Maybe", "dependsOn": ["customer"]},
    ] == status["receivers"]
    assert "enforce" == status["validation"]
    assert "Enforced" == condition(system, broker(), "SchemaValidation")["reason"]


def test_a_warning_accepts_and_shows_the_newest_path(system: HeadraceUnderTest) -> None:
    """Then off: nothing is checked; then enforced again."""
    try:
        system.apply(broker("warn"))
        wait_until(lambda: 202 == binary(system, BAD), 30, "it only warns")
        wait_until(
            lambda: (
                "/total does not satisfy minimum"
                in condition(system, broker(), "SchemaValidation").get("message", "")
            ),
            30,
            "the condition shows the path",
        )
        assert "headrace_ingress_schema_warnings_total" in system.metrics("ingress")
        system.apply(broker("off"))
        wait_until(lambda: not condition(system, broker(), "SchemaValidation"), 30, "it is off")
        assert 202 == binary(system, BAD)
    finally:
        system.apply(broker("enforce"))
    wait_until(lambda: 400 == binary(system, BAD), 30, "it is enforced again")


def test_a_bad_schema_is_a_condition_and_the_last_one_stays(system: HeadraceUnderTest) -> None:
    """The Broker's condition names the EventType; nobody crashes."""
    try:
        system.apply(event_type(schemaData='{"type": "nonsense"}'))
        wait_until(
            lambda: "False" == condition(system, event_type(), "SchemaInEffect").get("status"),
            30,
            "the schema is invalid",
        )
        wait_until(
            lambda: (
                "EventType order-created"
                in condition(system, broker(), "SchemaValidation").get("message", "")
            ),
            30,
            "the Broker says so",
        )
        assert (202, 400) == (binary(system, GOOD), binary(system, BAD))
    finally:
        system.apply(event_type())


class _Schemas(BaseHTTPRequestHandler):
    """Serves a schema, and counts how often."""

    asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        """Answer with a schema that wants `url`."""
        type(self).asked += 1
        body = b'{"required": ["url"]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def test_a_schema_behind_a_url_is_fetched_by_the_controller(system: HeadraceUnderTest) -> None:
    """Once; the ingress has it from the routing table."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Schemas)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        system.apply(
            event_type(schemaData="", schema=f"http://127.0.0.1:{server.server_port}/order.json"),
        )
        wait_until(lambda: 202 == binary(system, {"url": 1}), 30, "the other schema applies")
        assert (400, 1) == (binary(system, GOOD), _Schemas.asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
        system.apply(event_type())
