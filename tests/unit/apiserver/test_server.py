"""The API over HTTP: paths, objects and errors of Kubernetes, limits of requests."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3

from headrace import __version__
from headrace.adapters.memory.store import MemoryResourceStore
from headrace_apiserver.kinds.openapi_v2 import v2_json, v2_protobuf
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

BROKERS = "/apis/eventing.knative.dev/v1/namespaces/ns/brokers"
TRIGGERS = "/apis/eventing.knative.dev/v1/namespaces/ns/triggers"
MAPS = "/api/v1/namespaces/ns/configmaps"
PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiUnderTest]:
    """One controller for the module, with two namespaces."""
    with running_api() as api:
        for name in ("ns", "other"):
            assert 201 == api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})[0]
        yield api


@pytest.fixture
def api(server: ApiUnderTest) -> ApiUnderTest:
    """The API without Brokers, Triggers and ConfigMaps."""
    for path in (TRIGGERS, BROKERS, MAPS):
        for item in server.call("GET", path)[1]["items"]:
            server.call("DELETE", f"{path}/{item['metadata']['name']}")
        wait_until(
            lambda path=path: not server.call("GET", path)[1]["items"],  # type: ignore[misc]
            10,
            f"{path} to be empty",
        )
    return server


def broker(name: str = "b", **spec: Any) -> dict[str, Any]:
    """The body of a Broker."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_create_returns_201_with_the_fields_that_the_server_sets(api: ApiUnderTest) -> None:
    """Kind, version, namespace, uid, generation, resourceVersion and defaults."""
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


def test_lists_have_a_version_and_can_span_all_namespaces(api: ApiUnderTest) -> None:
    """The kind is <Kind>List; objects of other namespaces are only in the list of all."""
    api.call("POST", BROKERS, broker())
    api.call("POST", BROKERS.replace("/ns/", "/other/"), broker("o"))
    code, found = api.call("GET", BROKERS)
    assert (200, "BrokerList", ["b"]) == (
        code,
        found["kind"],
        [each["metadata"]["name"] for each in found["items"]],
    )
    assert int(found["metadata"]["resourceVersion"]) >= int(
        found["items"][0]["metadata"]["resourceVersion"]
    )
    everywhere = api.call("GET", "/apis/eventing.knative.dev/v1/brokers")[1]["items"]
    assert [("ns", "b"), ("other", "o")] == [
        (each["metadata"]["namespace"], each["metadata"]["name"]) for each in everywhere
    ]
    api.call("DELETE", BROKERS.replace("/ns/", "/other/") + "/o")


def test_a_broker_becomes_ready_and_has_a_status_endpoint(api: ApiUnderTest) -> None:
    """The controller behind the API works. /status reads and writes only the status."""
    api.call("POST", BROKERS, broker())

    def ready() -> bool:
        status = api.call("GET", f"{BROKERS}/b/status")[1].get("status", {})
        return any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in status.get("conditions", ())
        )

    wait_until(ready, 10, "the Broker to be Ready")
    found = api.call("GET", f"{BROKERS}/b")[1]
    assert "http://127.0.0.1:8080/ns/b" == found["status"]["address"]["url"]
    written = api.call(
        "PUT",
        f"{BROKERS}/b/status",
        {**found, "spec": {"lie": 1}, "status": {"annotations": {"x": "1"}}},
    )[1]
    assert (found["spec"], {"annotations": {"x": "1"}}) == (written["spec"], written["status"])


def test_config_maps_are_core_kinds_without_status(api: ApiUnderTest) -> None:
    """Under /api/v1, without a status endpoint and a generation."""
    code, made = api.call("POST", MAPS, {"metadata": {"name": "m"}, "data": {"k": "v"}})
    assert (201, {"k": "v"}, False) == (code, made["data"], "generation" in made["metadata"])
    assert 404 == api.call("GET", f"{MAPS}/m/status")[0]


def test_replace_and_resource_versions(api: ApiUnderTest) -> None:
    """Without a version it replaces, with an outdated one it conflicts, and immutable fields do not
    change.
    """
    made = api.call("POST", MAPS, {"metadata": {"name": "m"}, "data": {"k": "1"}})[1]
    assert 200 == api.call("PUT", f"{MAPS}/m", {"metadata": {"name": "m"}, "data": {"k": "2"}})[0]
    code, answer = api.call("PUT", f"{MAPS}/m", {**made, "data": {"k": "3"}})
    assert (409, "Conflict") == (code, answer["reason"])
    api.call("POST", BROKERS, broker())
    config = {"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "namespace": "ns"}
    code, answer = api.call("PUT", f"{BROKERS}/b", broker(config=config))
    assert 400 == code
    assert answer["message"].startswith(
        "validation failed: Immutable fields changed (-old +new): spec\n"
    )


@pytest.mark.parametrize("flag", ["true", "1", "True", "t", ""])
def test_one_object_can_be_watched_by_its_path(api: ApiUnderTest, flag: str) -> None:
    """In every spelling of `true`; Python's is True."""
    api.call("POST", MAPS, {"metadata": {"name": "m"}})
    events = api.watch(f"{MAPS}/m?watch={flag}&timeoutSeconds=1")
    assert [("ADDED", "m")] == [
        (each["type"], each["object"]["metadata"]["name"]) for each in events
    ]


def _token(version: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, "ns", "a"]).encode()).decode().rstrip("=")


@pytest.mark.parametrize("version", ["9" * 5_000, "1" * 20, "%D9%A1", "-1", "1x"])
@pytest.mark.parametrize("watch", ["", "&watch=true"])
def test_invalid_resource_versions_are_rejected(
    api: ApiUnderTest, version: str, watch: str
) -> None:
    """What is not a number, or is too long; the message names the parameter."""
    code, status = api.call("GET", f"{MAPS}?resourceVersion={version}{watch}")
    assert (400, "BadRequest") == (code, status["reason"])
    assert status["message"].startswith("resourceVersion: Invalid value: ")


@pytest.mark.parametrize("version", ["9" * 600, "\u0661"])
def test_invalid_continue_tokens_are_rejected(api: ApiUnderTest, version: str) -> None:
    """Also with a number in them that is not a resourceVersion."""
    code, status = api.call("GET", f"{MAPS}?continue={_token(version)}")
    assert (400, True) == (code, status["message"].startswith("continue key is not valid"))


def test_strategic_patches_are_for_core_kinds(api: ApiUnderTest) -> None:
    """Core kinds merge lists by their keys. Custom kinds accept what is a merge patch too, and
    reject directives.
    """
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    api.call(
        "POST",
        MAPS,
        {"metadata": {"name": "m", "finalizers": ["x.dev/a"]}, "data": {"k": "1", "gone": "2"}},
    )
    patch = {"metadata": {"finalizers": ["x.dev/b"]}, "data": {"$patch": "replace", "k": "2"}}
    code, made = api.call("PATCH", f"{MAPS}/m", patch, headers=strategic)
    assert (200, ["x.dev/a", "x.dev/b"], {"k": "2"}) == (
        code,
        made["metadata"]["finalizers"],
        made["data"],
    )
    api.call("PATCH", f"{MAPS}/m", {"metadata": {"finalizers": None}}, headers=strategic)
    api.call("POST", BROKERS, broker())
    code, made = api.call(
        "PATCH", f"{BROKERS}/b", {"metadata": {"labels": {"a": "b"}}}, headers=strategic
    )
    assert (200, {"a": "b"}) == (code, made["metadata"]["labels"])
    code, status = api.call(
        "PATCH", f"{BROKERS}/b", {"metadata": {"labels": {"$patch": "delete"}}}, headers=strategic
    )
    assert (415, "UnsupportedMediaType") == (code, status["reason"])
    assert "strategic" not in status["message"]


def test_delete_returns_a_status_or_the_object(api: ApiUnderTest) -> None:
    """Without finalizers the object is gone. Preconditions are checked. A second delete is 404."""
    made = api.call("POST", MAPS, {"metadata": {"name": "m"}})[1]
    assert 409 == api.call("DELETE", f"{MAPS}/m", {"preconditions": {"uid": "another"}})[0]
    code, answer = api.call(
        "DELETE",
        f"{MAPS}/m",
        {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"},
    )
    assert (200, "Success", made["metadata"]["uid"]) == (
        code,
        answer["status"],
        answer["details"]["uid"],
    )
    assert 404 == api.call("DELETE", f"{MAPS}/m")[0]


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason", "message"),
    [
        (
            "GET",
            f"{BROKERS}/gone",
            None,
            404,
            "NotFound",
            'brokers.eventing.knative.dev "gone" not found',
        ),
        (
            "GET",
            "/apis/x.dev/v1/things",
            None,
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/nonsense",
            None,
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        ("GET", "/apis/internal.headrace.dev/v1/holdings", None, 404, "NotFound", "could not find"),
        (
            "GET",
            "/apis/eventing.knative.dev/v1/namespaces/ns/brokers/b/nothing",
            None,
            404,
            "NotFound",
            "could not find",
        ),
        ("GET", "/apis/eventing.knative.dev/v1/brokers/b", None, 404, "NotFound", "could not find"),
        (
            "POST",
            "/apis/eventing.knative.dev/v1/brokers",
            broker(),
            405,
            "MethodNotAllowed",
            "does not allow this method",
        ),
        (
            "PUT",
            BROKERS,
            broker(),
            405,
            "MethodNotAllowed",
            "update is not supported on resources of kind",
        ),
        ("OPTIONS", BROKERS, None, 405, "MethodNotAllowed", "does not allow this method"),
        ("PATCH", f"{BROKERS}/b", {}, 415, "UnsupportedMediaType", "application/merge-patch+json"),
        (
            "POST",
            BROKERS.replace("/ns/", "/nowhere/"),
            broker(),
            404,
            "NotFound",
            'namespaces "nowhere" not found',
        ),
        (
            "POST",
            BROKERS,
            {"metadata": {"name": "UP"}},
            422,
            "Invalid",
            'Broker.eventing.knative.dev "UP" is invalid: metadata.name',
        ),
        (
            "POST",
            BROKERS,
            {"spec": {}},
            422,
            "Invalid",
            "metadata.name: Required value: name or generateName is required",
        ),
        (
            "POST",
            BROKERS,
            {**broker(), "kind": "Trigger"},
            400,
            "BadRequest",
            "the kind in the data (Trigger) does not match",
        ),
        (
            "POST",
            BROKERS,
            {"metadata": {"name": "b", "namespace": "x"}},
            400,
            "BadRequest",
            "does not match the namespace sent",
        ),
        (
            "PUT",
            f"{BROKERS}/b",
            broker("c"),
            400,
            "BadRequest",
            "the name of the object (c) does not match the name on the URL (b)",
        ),
        ("PUT", f"{BROKERS}/gone", broker("gone"), 404, "NotFound", '"gone" not found'),
        (
            "POST",
            f"{BROKERS}?fieldValidation=Strict",
            broker(x=1),
            400,
            "BadRequest",
            'strict decoding error: unknown field "spec.x"',
        ),
        (
            "POST",
            f"{BROKERS}?fieldValidation=Some",
            broker(),
            400,
            "BadRequest",
            "supported values",
        ),
        ("POST", f"{BROKERS}?dryRun=Some", broker(), 400, "BadRequest", "supported values"),
        (
            "POST",
            f"{BROKERS}?fieldManager={'x' * 200}",
            broker(),
            400,
            "BadRequest",
            "fieldManager",
        ),
        (
            "POST",
            TRIGGERS,
            {"metadata": {"name": "t"}, "spec": {}},
            400,
            "BadRequest",
            "validation failed: missing field(s): spec.broker",
        ),
        (
            "GET",
            f"{BROKERS}?labelSelector=a%3D%3D%3D",
            None,
            400,
            "BadRequest",
            "unable to parse requirement",
        ),
        ("GET", f"{BROKERS}?limit=-1", None, 400, "BadRequest", "limit"),
        ("GET", f"{BROKERS}?continue=x", None, 400, "BadRequest", "continue key is not valid"),
        ("GET", f"{BROKERS}?resourceVersion=x", None, 400, "BadRequest", "resourceVersion"),
        (
            "GET",
            f"{BROKERS}?resourceVersionMatch=Exact",
            None,
            422,
            "Invalid",
            "forbidden unless resourceVersion is provided",
        ),
        (
            "GET",
            f"{BROKERS}?resourceVersion=99999999",
            None,
            504,
            "Timeout",
            "Too large resource version",
        ),
        (
            "DELETE",
            f"{BROKERS}/gone?propagationPolicy=Some",
            None,
            400,
            "BadRequest",
            "supported values",
        ),
    ],
)
def test_errors_are_status_objects(
    api: ApiUnderTest, method: str, path: str, body: Any, code: int, reason: str, message: str
) -> None:
    """Code, reason and message as Kubernetes clients expect them."""
    got, answer = api.call(method, path, body)
    assert (code, "Status", "Failure", reason, code) == (
        got,
        answer["kind"],
        answer["status"],
        answer["reason"],
        answer["code"],
    )
    assert message in answer["message"]


def test_creating_twice_is_already_exists(api: ApiUnderTest) -> None:
    """409 AlreadyExists with the kind in the details."""
    api.call("POST", BROKERS, broker())
    code, answer = api.call("POST", BROKERS, broker())
    assert (409, "AlreadyExists", "brokers") == (code, answer["reason"], answer["details"]["kind"])


def test_causes_name_the_fields(api: ApiUnderTest) -> None:
    """A client can show them in a form."""
    answer = api.call(
        "POST", TRIGGERS, {"metadata": {"name": "t"}, "spec": {"broker": "", "subscriber": {}}}
    )[1]
    assert {"spec.broker", "spec.subscriber.ref", "spec.subscriber.uri"} == {
        each["field"] for each in answer["details"]["causes"]
    }


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b'{"metadata":{"name":"m"},"data":{"a":"' + b"x" * 300_000 + b'"}}', {}, 413),
        (b'{"metadata":{"name":"m"}', {}, 400),
        (b"[" * 10_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"", {}, 400),
        (b"k8s\x00\n\x10", {"Content-Type": "application/vnd.kubernetes.protobuf"}, 400),
        (b'{"metadata":{"name":"m"}}', {"Content-Type": "text/plain"}, 415),
        (
            b"metadata: {name: m}\n---\nmetadata: {name: n}\n",
            {"Content-Type": "application/yaml"},
            400,
        ),
        (b"metadata: &a {name: m}\ndata: *a\n", {"Content-Type": "application/yaml"}, 400),
        (b'{"metadata":{"name":"m"}}', {"Host": "evil.example"}, 403),
        (b'{"metadata":{"name":"m"}}', {"Host": "127.0.0.1.evil.example:8001"}, 403),
    ],
)
def test_hostile_bodies_are_rejected(
    api: ApiUnderTest, content: bytes, headers: dict[str, str], code: int
) -> None:
    """Each with a Status, and nothing is stored."""
    got, answer = api.call("POST", MAPS, content=content, headers=headers)
    assert (code, "Failure") == (got, answer["status"])
    assert [] == api.call("GET", MAPS)[1]["items"]


def test_yaml_is_accepted_by_its_media_type(api: ApiUnderTest) -> None:
    """One document, as kubectl would send a file."""
    code, made = api.call(
        "POST",
        MAPS,
        content=b"metadata:\n  name: y\ndata:\n  k: v\n",
        headers={"Content-Type": "application/yaml"},
    )
    assert (201, {"k": "v"}) == (code, made["data"])


def test_probes_and_version(api: ApiUnderTest) -> None:
    """Plain text for probes, JSON for kubectl version."""
    assert (200, "ok\n") == api.text("/livez") == api.text("/readyz") == api.text("/healthz")
    assert "[+]started ok" in api.text("/readyz?verbose")[1]
    assert api.call("GET", "/version")[1]["gitVersion"].startswith("v")


@pytest.mark.parametrize(
    ("accept", "code", "media_type"),
    [
        (PROTOBUF_V2, 200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
        ("application/json", 200, "application/json"),
        ("application/json, */*", 200, "application/json"),
        ("text/plain", 406, "application/json"),
    ],
)
def test_openapi_v2_media_types(api: ApiUnderTest, accept: str, code: int, media_type: str) -> None:
    """Protobuf for Go clients, JSON for others. 406 with the available types for a client that
    accepts neither.
    """
    answer = api.request("GET", "/openapi/v2", headers={"Accept": accept})
    assert (code, media_type) == (answer.status, answer.headers["content-type"])


def test_openapi_v2_has_no_kinds() -> None:
    """In JSON the document is complete without paths. In protobuf it has the same three fields:
    swagger, info, paths.
    """
    assert {
        "swagger": "2.0",
        "info": {"title": "Headrace", "version": __version__},
        "paths": {},
    } == json.loads(v2_json())
    info = b"\x0a\x08Headrace\x12" + bytes([len(__version__)]) + __version__.encode()
    assert b"\x0a\x032.0\x12" + bytes([len(info)]) + info + b"\x42\x00" == v2_protobuf()


def _warnings(answer: urllib3.BaseHTTPResponse) -> list[str]:
    return answer.headers.getlist("warning")


def test_reads_have_a_warning_while_the_store_cannot_be_read(
    api: ApiUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their objects are from memory. Every form of a read has it, also the response 404; writes do
    not, and nothing has it when the store can be read.
    """
    paths = (BROKERS, f"{BROKERS}/none", f"{BROKERS}?watch=1&timeoutSeconds=1")
    assert [[], [], []] == [_warnings(api.request("GET", path)) for path in paths]
    problem = "Kafka does not answer"
    monkeypatch.setattr(MemoryResourceStore, "last_error", property(lambda _: problem))
    warning = f'299 - "objects and their status may be old: {problem}"'
    assert [[warning]] * 3 == [_warnings(api.request("GET", path)) for path in paths]
    made = {"metadata": {"name": "m"}}
    assert [] == _warnings(api.request("POST", f"{MAPS}?dryRun=All", made))


def test_kinds_that_are_not_reconciled_result_in_a_warning(api: ApiUnderTest) -> None:
    """At each create and update, once; not when a status is set, and not for kinds that are
    reconciled or that users have added.
    """
    policies = "/apis/eventing.knative.dev/v1alpha1/namespaces/ns/eventpolicies"
    warnings = ['299 - "this version of Headrace does not reconcile EventPolicies"']
    made = api.request("POST", policies, {"metadata": {"name": "s"}, "spec": {}})
    assert (201, warnings) == (made.status, _warnings(made))
    merge = {"Content-Type": "application/merge-patch+json"}
    assert warnings == _warnings(
        api.request("PATCH", f"{policies}/s", {"metadata": {"labels": {"a": "b"}}}, headers=merge)
    )
    assert [] == _warnings(
        api.request(
            "PATCH", f"{policies}/s/status", {"status": {"observedGeneration": 2}}, headers=merge
        )
    )
    assert [] == _warnings(api.request("GET", f"{policies}/s"))
    assert [] == _warnings(api.request("DELETE", f"{policies}/s"))
    assert warnings == _warnings(
        api.request("POST", f"{policies}?dryRun=All", {"metadata": {"name": "p"}, "spec": {}})
    )
    assert [] == _warnings(api.request("POST", BROKERS, broker()))
    assert [] == _warnings(api.request("POST", MAPS, {"metadata": {"name": "m"}}))
    types = "/apis/eventing.knative.dev/v1beta3/namespaces/ns/eventtypes"
    attributes = {"attributes": [{"name": "type", "value": "t", "required": True}]}
    assert [] == _warnings(
        api.request("POST", f"{types}?dryRun=All", {"metadata": {"name": "t"}, "spec": attributes})
    )


def test_duplicate_fields(api: ApiUnderTest) -> None:
    """Strict rejects them with their paths. Otherwise the last value counts, as in Kubernetes, with
    a warning.
    """
    twice = b'{"metadata":{"name":"m"},"data":{"a":"1","a":"2"}}'
    code, answer = api.call("POST", f"{MAPS}?fieldValidation=Strict", content=twice)
    assert (400, 'strict decoding error: duplicate field "data.a"') == (code, answer["message"])
    response = api.request("POST", MAPS, content=twice)
    assert (201, '299 - "duplicate field \\"data.a\\""') == (
        response.status,
        response.headers["warning"],
    )
    assert {"a": "2"} == api.call("GET", f"{MAPS}/m")[1]["data"]


def test_lists_in_pages(api: ApiUnderTest) -> None:
    """All pages have the version of the first one, the remaining objects are counted, and a watch
    from that version sees the changes in between.
    """
    for number in range(5):
        api.call("POST", MAPS, {"metadata": {"name": f"m{number}"}})
    first = api.call("GET", f"{MAPS}?limit=2")[1]
    assert (["m0", "m1"], 3) == (
        [each["metadata"]["name"] for each in first["items"]],
        first["metadata"]["remainingItemCount"],
    )
    api.call("POST", MAPS, {"metadata": {"name": "m9"}})
    second = api.call("GET", f"{MAPS}?limit=10&continue={first['metadata']['continue']}")[1]
    assert ["m2", "m3", "m4", "m9"] == [each["metadata"]["name"] for each in second["items"]]
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]
    events = api.watch(
        f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={second['metadata']['resourceVersion']}"
    )
    assert [("ADDED", "m9")] == [
        (each["type"], each["object"]["metadata"]["name"]) for each in events
    ]


def test_an_old_continue_token_is_expired(api: ApiUnderTest) -> None:
    """410, so that the client lists again."""
    token = base64.urlsafe_b64encode(b'["0","",""]').decode().rstrip("=")
    code, answer = api.call("GET", f"{MAPS}?continue={token}")
    assert (410, "Expired") == (code, answer["reason"])


def test_a_watch_resumes_or_ends_with_an_error(api: ApiUnderTest) -> None:
    """From a version: the changes since then. From a version in the future: an ERROR event with
    410.
    """
    made = api.call("POST", MAPS, {"metadata": {"name": "m"}})[1]
    api.call("DELETE", f"{MAPS}/m")
    events = api.watch(
        f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={made['metadata']['resourceVersion']}"
    )
    assert ["DELETED"] == [each["type"] for each in events]
    (gone,) = api.watch(f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=99999999")
    assert ("ERROR", 410) == (gone["type"], gone["object"]["code"])


def test_a_watch_list_marks_the_end_of_the_initial_objects(api: ApiUnderTest) -> None:
    """sendInitialEvents: ADDED for each, then the bookmark with the annotation."""
    api.call("POST", MAPS, {"metadata": {"name": "m"}})
    query = "watch=1&timeoutSeconds=1&sendInitialEvents=true"
    query += "&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = api.watch(f"{MAPS}?{query}")
    assert ["ADDED", "BOOKMARK"] == [each["type"] for each in events][:2]
    assert "true" == events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"]


def test_a_collection_is_deleted_by_selection(api: ApiUnderTest) -> None:
    """Only the selected objects are deleted; the response lists them."""
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2"})):
        api.call("POST", MAPS, {"metadata": {"name": name, "labels": labels}})
    code, answer = api.call("DELETE", f"{MAPS}?labelSelector=x%3D1")
    assert (200, "ConfigMapList", ["a"]) == (
        code,
        answer["kind"],
        [each["metadata"]["name"] for each in answer["items"]],
    )
    assert ["b"] == [each["metadata"]["name"] for each in api.call("GET", MAPS)[1]["items"]]


def test_forms_of_a_response(api: ApiUnderTest) -> None:
    """Tables and metadata by Accept; 406 for an unsupported form."""
    api.call("POST", MAPS, {"metadata": {"name": "m"}, "data": {"a": "b"}})
    table = api.call(
        "GET", MAPS, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    )[1]
    assert ("Table", ["m", 1]) == (table["kind"], table["rows"][0]["cells"][:2])
    metadata = api.call(
        "GET",
        f"{MAPS}/m",
        headers={"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"},
    )[1]
    assert ("PartialObjectMetadata", False) == (metadata["kind"], "data" in metadata)
    several = api.call(
        "GET", MAPS, headers={"Accept": "application/vnd.kubernetes.protobuf,application/json"}
    )[1]
    assert "ConfigMapList" == several["kind"]
    assert (
        406 == api.call("GET", MAPS, headers={"Accept": "application/vnd.kubernetes.protobuf"})[0]
    )


def test_concurrent_patches_are_all_applied(api: ApiUnderTest) -> None:
    """Twenty patches of one object at once."""
    api.call("POST", MAPS, {"metadata": {"name": "m"}})
    headers = {"Content-Type": "application/merge-patch+json"}
    with ThreadPoolExecutor(20) as pool:
        codes = list(
            pool.map(
                lambda n: api.call("PATCH", f"{MAPS}/m", {"data": {f"k{n}": "v"}}, headers=headers)[
                    0
                ],
                range(20),
            )
        )
    assert {200} == set(codes)
    assert 20 == len(api.call("GET", f"{MAPS}/m")[1]["data"])


def test_user_info_annotations(api: ApiUnderTest) -> None:
    """Creator and last modifier for kinds of Knative, not for other groups."""
    api.call("POST", BROKERS, broker())
    annotations = api.call("GET", f"{BROKERS}/b")[1]["metadata"]["annotations"]
    assert ("headrace", "headrace") == (
        annotations["eventing.knative.dev/creator"],
        annotations["eventing.knative.dev/lastModifier"],
    )
    assert "annotations" not in api.call("POST", MAPS, {"metadata": {"name": "m"}})[1]["metadata"]


def test_data_of_secrets(api: ApiUnderTest) -> None:
    """stringData becomes data. With the annotation for values in files, there must be no data. Bad
    base64 is not shown.
    """
    secrets = "/api/v1/namespaces/ns/secrets"
    code, made = api.call("POST", secrets, {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert (201, {"a": "Yg=="}, False) == (code, made["data"], "stringData" in made)
    elsewhere = {"name": "e", "annotations": {"headrace.dev/data-from": "kafka"}}
    assert 201 == api.call("POST", secrets, {"metadata": elsewhere})[0]
    assert 422 == api.call("PUT", f"{secrets}/e", {"metadata": elsewhere, "data": {"a": "Yg=="}})[0]
    code, answer = api.call("POST", secrets, {"metadata": {"name": "x"}, "data": {"a": "hunter2!"}})
    assert (422, False) == (code, "hunter2" in str(answer))
    for name in ("s", "e"):
        api.call("DELETE", f"{secrets}/{name}")


def test_self_subject_reviews(api: ApiUnderTest) -> None:
    """They are answered and not stored."""
    review = {"spec": {"resourceAttributes": {"verb": "create", "resource": "brokers"}}}
    code, answer = api.call(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review
    )
    assert (201, True) == (code, answer["status"]["allowed"])
    answer = api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})[1]
    assert "headrace" == answer["status"]["userInfo"]["username"]
