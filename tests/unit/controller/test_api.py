"""The API over HTTP: Kubernetes paths, objects and errors, bounds on what comes in."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.unit.controller.server import ApiUnderTest, running_api

BROKERS = "/apis/eventing.knative.dev/v1/namespaces/ns/brokers"
TRIGGERS = "/apis/eventing.knative.dev/v1/namespaces/ns/triggers"
MAPS = "/api/v1/namespaces/ns/configmaps"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiUnderTest]:
    """One controller for the module."""
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: ApiUnderTest) -> ApiUnderTest:
    """The API, with nothing in it."""
    for path in (TRIGGERS, BROKERS, MAPS):
        for item in server.call("GET", path)[1]["items"]:
            server.call("DELETE", f"{path}/{item['metadata']['name']}")
        wait_until(lambda path=path: not server.call("GET", path)[1]["items"], 10, f"{path} to be empty")  # type: ignore[misc]
    return server


def broker(name: str = "b", **spec: Any) -> dict[str, Any]:
    """A Broker's body."""
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": name}, "spec": spec}


def test_create_answers_201_with_what_the_server_sets(api: ApiUnderTest) -> None:
    """Kind, version, namespace, uid, generation, resourceVersion and defaults are there."""
    code, made = api.call("POST", BROKERS, {"metadata": {"name": "b"}, "spec": {}})
    assert 201 == code
    assert ("Broker", "eventing.knative.dev/v1", "ns", 1) == (
        made["kind"],
        made["apiVersion"],
        made["metadata"]["namespace"],
        made["metadata"]["generation"],
    )
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"].isdecimal()
    assert "Kafka" == made["metadata"]["annotations"]["eventing.knative.dev/broker.class"]


def test_lists_carry_a_version_and_all_namespaces_can_be_asked_for(api: ApiUnderTest) -> None:
    """Kind is <Kind>List; other namespaces' items only in the list of all."""
    api.call("POST", BROKERS, broker())
    api.call("POST", BROKERS.replace("/ns/", "/other/"), broker("o"))
    code, found = api.call("GET", BROKERS)
    assert (200, "BrokerList", ["b"]) == (code, found["kind"], [each["metadata"]["name"] for each in found["items"]])
    assert int(found["metadata"]["resourceVersion"]) >= int(found["items"][0]["metadata"]["resourceVersion"])
    everywhere = api.call("GET", "/apis/eventing.knative.dev/v1/brokers")[1]["items"]
    assert [("ns", "b"), ("other", "o")] == [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in everywhere]
    api.call("DELETE", BROKERS.replace("/ns/", "/other/") + "/o")


def test_broker_becomes_ready_and_its_status_has_a_door(api: ApiUnderTest) -> None:
    """The controller behind the API works; /status reads and writes the status alone."""
    api.call("POST", BROKERS, broker())

    def ready() -> bool:
        status = api.call("GET", f"{BROKERS}/b/status")[1].get("status", {})
        return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))

    wait_until(ready, 10, "the Broker to be Ready")
    found = api.call("GET", f"{BROKERS}/b")[1]
    assert "http://127.0.0.1:8080/ns/b" == found["status"]["address"]["url"]
    written = api.call("PUT", f"{BROKERS}/b/status", {**found, "spec": {"lie": 1}, "status": {"x": 1}})[1]
    assert (found["spec"], {"x": 1}) == (written["spec"], written["status"])


def test_config_maps_are_core_kinds_without_status(api: ApiUnderTest) -> None:
    """Under /api/v1; no status endpoint, no generation."""
    code, made = api.call("POST", MAPS, {"metadata": {"name": "m"}, "data": {"k": "v"}})
    assert (201, {"k": "v"}, False) == (code, made["data"], "generation" in made["metadata"])
    assert 404 == api.call("GET", f"{MAPS}/m/status")[0]


def test_replace_keeps_the_rules_of_versions(api: ApiUnderTest) -> None:
    """Without a version it replaces, with an old one it conflicts, and what must not change does not."""
    made = api.call("POST", MAPS, {"metadata": {"name": "m"}, "data": {"k": "1"}})[1]
    assert 200 == api.call("PUT", f"{MAPS}/m", {"metadata": {"name": "m"}, "data": {"k": "2"}})[0]
    code, answer = api.call("PUT", f"{MAPS}/m", {**made, "data": {"k": "3"}})
    assert (409, "Conflict") == (code, answer["reason"])
    api.call("POST", BROKERS, broker())
    config = {"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "namespace": "ns"}
    code, answer = api.call("PUT", f"{BROKERS}/b", broker(config=config))
    assert 400 == code
    assert answer["message"].startswith("validation failed: Immutable fields changed (-old +new): spec\n")


def test_delete_answers_with_status_or_the_marked_resource(api: ApiUnderTest) -> None:
    """Without finalizers it is gone; preconditions count; deleting twice is 404."""
    made = api.call("POST", MAPS, {"metadata": {"name": "m"}})[1]
    assert 409 == api.call("DELETE", f"{MAPS}/m", {"preconditions": {"uid": "another"}})[0]
    code, answer = api.call("DELETE", f"{MAPS}/m", {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"})
    assert (200, "Success", made["metadata"]["uid"]) == (code, answer["status"], answer["details"]["uid"])
    assert 404 == api.call("DELETE", f"{MAPS}/m")[0]


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason", "message"),
    [
        ("GET", f"{BROKERS}/gone", None, 404, "NotFound", 'brokers.eventing.knative.dev "gone" not found'),
        ("GET", "/apis/x.dev/v1/things", None, 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/nonsense", None, 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/apis/internal.headrace.dev/v1/holdings", None, 404, "NotFound", "could not find"),
        ("PATCH", f"{BROKERS}/b", {}, 405, "MethodNotAllowed", "Method Not Allowed"),
        ("POST", BROKERS, {"metadata": {"name": "UP"}}, 422, "Invalid", 'Broker.eventing.knative.dev "UP" is invalid: metadata.name'),
        ("POST", BROKERS, {"spec": {}}, 400, "BadRequest", "metadata with a name is needed"),
        ("POST", BROKERS, {**broker(), "kind": "Trigger"}, 400, "BadRequest", "the kind in the data (Trigger) does not match"),
        ("POST", BROKERS, {"metadata": {"name": "b", "namespace": "x"}}, 400, "BadRequest", "does not match the namespace sent"),
        ("PUT", f"{BROKERS}/b", broker("c"), 400, "BadRequest", "the name of the object (c) does not match the name on the URL (b)"),
        ("PUT", f"{BROKERS}/gone", broker("gone"), 404, "NotFound", '"gone" not found'),
        ("POST", BROKERS, broker(x=1), 400, "BadRequest", 'strict decoding error: unknown field "spec.x"'),
        ("POST", TRIGGERS, {"metadata": {"name": "t"}, "spec": {}}, 400, "BadRequest", "validation failed: missing field(s): spec.broker"),
        ("GET", f"{BROKERS}?watch=true", None, 400, "BadRequest", "does not know watch yet"),
        ("GET", f"{BROKERS}?labelSelector=a%3Db", None, 400, "BadRequest", "does not know labelSelector yet"),
    ],
)
def test_errors_are_status_objects(api: ApiUnderTest, method: str, path: str, body: Any, code: int, reason: str, message: str) -> None:
    """Code, reason and message as Kubernetes clients expect them."""
    got, answer = api.call(method, path, body)
    assert (code, "Status", "Failure", reason, code) == (got, answer["kind"], answer["status"], answer["reason"], answer["code"])
    assert message in answer["message"]


def test_creating_twice_is_already_exists(api: ApiUnderTest) -> None:
    """409 AlreadyExists with details that name the kind."""
    api.call("POST", BROKERS, broker())
    code, answer = api.call("POST", BROKERS, broker())
    assert (409, "AlreadyExists", "brokers") == (code, answer["reason"], answer["details"]["kind"])


def test_causes_name_the_fields(api: ApiUnderTest) -> None:
    """What a client shows beside a form."""
    answer = api.call("POST", TRIGGERS, {"metadata": {"name": "t"}, "spec": {"broker": "", "subscriber": {}}})[1]
    assert {"spec.broker", "spec.subscriber.ref", "spec.subscriber.uri"} == {each["field"] for each in answer["details"]["causes"]}


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b'{"metadata":{"name":"m"},"data":{"a":"' + b"x" * 300_000 + b'"}}', {}, 413),
        (b'{"metadata":{"name":"m"}', {}, 400),
        (b'{"metadata":{"name":"m"},"metadata":{"name":"n"}}', {}, 400),
        (b"[" * 10_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"", {}, 400),
        (b"k8s\x00\n\x10", {"Content-Type": "application/vnd.kubernetes.protobuf"}, 415),
        (b'{"metadata":{"name":"m"}}', {"Content-Type": "text/plain"}, 415),
        (b"metadata: {name: m}\n---\nmetadata: {name: n}\n", {"Content-Type": "application/yaml"}, 400),
        (b"metadata: &a {name: m}\ndata: *a\n", {"Content-Type": "application/yaml"}, 400),
        (b'{"metadata":{"name":"m"}}', {"Host": "evil.example"}, 403),
        (b'{"metadata":{"name":"m"}}', {"Host": "127.0.0.1.evil.example:8001"}, 403),
    ],
)
def test_hostile_bodies_are_refused(api: ApiUnderTest, content: bytes, headers: dict[str, str], code: int) -> None:
    """Each with a Status, and nothing is stored."""
    got, answer = api.call("POST", MAPS, content=content, headers=headers)
    assert (code, "Failure") == (got, answer["status"])
    assert [] == api.call("GET", MAPS)[1]["items"]


def test_yaml_is_taken_where_it_says_so(api: ApiUnderTest) -> None:
    """One document, as kubectl would send a file."""
    code, made = api.call("POST", MAPS, content=b"metadata:\n  name: y\ndata:\n  k: v\n", headers={"Content-Type": "application/yaml"})
    assert (201, {"k": "v"}) == (code, made["data"])


def test_probes_and_version_answer(api: ApiUnderTest) -> None:
    """Plain text for probes, JSON for kubectl version."""
    assert (200, "ok\n") == api.text("/livez") == api.text("/readyz") == api.text("/healthz")
    assert "[+]started ok" in api.text("/readyz?verbose")[1]
    assert api.call("GET", "/version")[1]["gitVersion"].startswith("v")
