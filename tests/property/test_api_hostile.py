"""Bodies with arbitrary content, through every verb and patch type: answered with what is wrong,
never with an internal error.
"""

import base64
import json
import random
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace_cli.main import application
from headrace_cli.resources import _manifests
from tests.property.test_definitions_hostile import GADGET
from tests.support.json_values import HOSTILE_VALUES, generated_values
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

MAPS = "/api/v1/namespaces/ns/configmaps"
FREE = "/apis/free.dev/v1/namespaces/ns/things"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
OBJECTS = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
COLLECTIONS = (MAPS, FREE, DEFINITIONS, "/api/v1/namespaces")
WRITABLE = (f"{MAPS}/x", f"{FREE}/x", f"{FREE}/x/status")
ABSENT = (f"{MAPS}/gone", f"{FREE}/gone", "/api/v1/namespaces/gone/configmaps")
ROUTES = [
    *product(["POST"], COLLECTIONS, OBJECTS),
    *product(["PUT"], WRITABLE, OBJECTS),
    *product(["DELETE"], ABSENT, OBJECTS),
    *product(["PATCH"], [f"{path}?fieldManager=m" for path in WRITABLE], PATCHES),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "application/json"),
]


def _definition() -> dict[str, Any]:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": free, "status": free}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"kind": "Thing", "plural": "things", "singular": "thing"}
    spec = {"group": "free.dev", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.free.dev"},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def api() -> Iterator[ApiUnderTest]:
    """A controller with a namespace, a kind that accepts everything, and one object each of two
    kinds.
    """
    with running_api() as running:
        assert 201 == running.call("POST", "/api/v1/namespaces", {"metadata": {"name": "ns"}})[0]
        assert 201 == running.call("POST", DEFINITIONS, _definition())[0]
        wait_until(lambda: running.call("GET", FREE)[0] == 200, 10, "the kind to be served")
        for path in (MAPS, FREE):
            assert (
                201
                == running.call("POST", path, {"metadata": {"name": "x", "finalizers": ["a.b/c"]}})[
                    0
                ]
            )
        yield running


def _answered(api: ApiUnderTest, method: str, path: str, type_: str, content: bytes) -> None:
    answer = api.request(method, path, content=content, headers={"Content-Type": type_})
    assert answer.status < 500, (
        f"{method} {path} {type_} {content[:200]!r}: {answer.status} {answer.data[:300]!r}"
    )
    json.loads(answer.data)


def _bodies(value: Any) -> Iterator[bytes]:
    """A value as a body, and at the places where clients have values."""
    for document in (
        value,
        {"metadata": {"name": "x"}, "spec": value},
        {"metadata": {"name": "x", "labels": value, "annotations": {"a": value}}, "data": value},
        {
            "metadata": {
                "name": value,
                "generateName": value,
                "resourceVersion": value,
                "managedFields": value,
            }
        },
        {
            "metadata": {
                "name": "x",
                "managedFields": [
                    {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsV1": value}
                ],
            }
        },
        {
            "apiVersion": value,
            "kind": value,
            "propagationPolicy": value,
            "preconditions": {"uid": value},
            "dryRun": value,
        },
        [{"op": "add", "path": "/spec", "value": value}],
        [{"op": value, "path": value, "from": value, "value": 1}],
        [
            {"op": "test", "path": "/metadata", "value": value},
            {"op": "copy", "from": "/metadata", "path": "/spec"},
        ],
        {
            "spec": {
                "$patch": value,
                "$retainKeys": value,
                "$setElementOrder/a": value,
                "$deleteFromPrimitiveList/a": value,
            }
        },
    ):
        try:
            yield json.dumps(document).encode()
        except (ValueError, RecursionError):
            return


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_values_at_the_limits_are_answered(api: ApiUnderTest, route: tuple[str, str, str]) -> None:
    """At every place of a body that a client sets."""
    small = [
        value for value in HOSTILE_VALUES if not isinstance(value, str | list) or len(value) < 1_000
    ]
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for value in [*small, *generated_values(random.Random(seed), 5)]:
        for body in _bodies(value):
            _answered(api, *route, body)


TEXTS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"\\ud800"',
    b'{"metadata":{"name":"\\ud800"}}',
    b'{"spec":{"a":"\\ud800"}}',
    b'{"spec":' + b"9" * 4_301 + b"}",
    b'{"spec":' + b"9" * 400 + b"}",
    b'{"spec":1e400}',
    b'{"spec":' + b"[" * 3_000,
    b'{"spec":"' + b'\\"' * 3_000,
    b"\xff\xfe{",
    b"\xef\xbb\xbf{}",
    b"spec: 1" + b":00" * 3_000,
    b"spec: 1:2:3.4:5.inf",
    b"spec: -:1",
    b"spec: !!bool zz",
    b"spec: !!float ''",
    b"spec: !!int ''",
    b"spec: !!int [1]",
    b"spec: !!timestamp zz",
    b"spec: !!binary zz",
    b"spec: !!set {a, b}",
    b"spec: !!omap [a: b]",
    b"spec: !!python/name:os.system",
    b"spec: !!str {=: 1}",
    b"spec: =",
    b"spec: {<<: {a: 1}}",
    b"<<: 1",
    b"? {a: b}\n: 1",
    b"? [a]\n: 1",
    b"spec: &a [*a]",
    b'spec: "\\ud800"',
    b'spec: "\\xZZ"',
    b"spec: \x07",
    b"%YAML 9.9\n--- 1",
    b"--- 1\n--- 2",
    b"kind: List\napiVersion: v1\nitems: 1",
    b"kind: List\napiVersion: v1\nitems: {a: 1}",
    b"k8s\x00",
    b"k8s\x00" + b"\xff" * 50,
    b"k8s\x00\x0a\x0b\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\x02\x0a\xff",
    b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x06\x0a\x04\x0a\x02\xed\xa0",
]


@pytest.mark.parametrize("text", TEXTS, ids=[repr(text[:30]) for text in TEXTS])
def test_texts_that_broke_parsers_are_answered(api: ApiUnderTest, text: bytes) -> None:
    """Through every verb and content type."""
    for route in ROUTES:
        _answered(api, *route, text)


PIECES = st.sampled_from(
    [
        *TEXTS,
        b"a",
        b":",
        b" ",
        b"\n",
        b"- ",
        b"? ",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b'"',
        b"'",
        b"|",
        b">",
        b"&",
        b"*",
        b"!",
        b"!!",
        b"%",
        b"@",
    ]
)
BODIES = st.binary(max_size=60) | st.lists(PIECES, max_size=12).map(b"".join)


@given(route=st.sampled_from(ROUTES), body=BODIES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered(
    api: ApiUnderTest, route: tuple[str, str, str], body: bytes
) -> None:
    """With a Status or an object, and never with 500."""
    _answered(api, *route, body)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(st.characters(), max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
@settings(max_examples=100)
def test_any_definition_is_answered(api: ApiUnderTest, value: Any) -> None:
    """A definition with arbitrary content in its schema."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "default": value, "enum": [value], "pattern": value}
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    document = {**GADGET, "spec": {**GADGET["spec"], "versions": [version]}}
    _answered(
        api, "POST", f"{DEFINITIONS}?dryRun=All", "application/json", json.dumps(document).encode()
    )


def test_a_client_that_leaves_during_its_body_is_no_error(
    api: ApiUnderTest, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written to the log, and the next request is answered."""
    place = urlsplit(api.url)
    for _ in range(5):
        with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
            head = (
                f"POST {MAPS} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type:"
                " application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            connection.sendall(head.encode())
    assert 200 == api.call("GET", MAPS)[0]
    wait_until(lambda: 200 == api.call("GET", MAPS)[0], 5, "the next request to be answered")
    seen = capfd.readouterr()
    assert "Traceback" not in seen.out + seen.err
    assert "internal error" not in seen.out + seen.err


@given(text=BODIES)
@settings(max_examples=400)
def test_any_file_is_read_or_refused(text: bytes) -> None:
    """By the parser of manifests."""
    try:
        for each in read_manifests(text, "f.yaml"):
            json.dumps(each.document, allow_nan=False)
    except InvalidManifest as error:
        assert str(error).startswith("f.yaml")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the files that commands read."""
    return tmp_path_factory.mktemp("files")


@given(text=BODIES)
@settings(max_examples=300)
def test_no_file_ends_headrace_filter_in_a_traceback(directory: Path, text: bytes) -> None:
    """The command ends with a message."""
    path = directory / "f.yaml"
    path.write_bytes(text)
    result = CliRunner().invoke(application(["filter"]), ["filter", str(path)], input="")
    assert result.exit_code in (1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@given(text=BODIES)
@settings(max_examples=100)
def test_no_file_ends_headrace_apply_in_a_traceback(directory: Path, text: bytes) -> None:
    """The command ends with a message, or finds manifests in the file."""
    path = directory / "a.yaml"
    path.write_bytes(text)
    try:
        assert _manifests([str(path)], None)
    except typer.Exit as ended:
        assert 2 == ended.exit_code


PARAMETERS = (
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "fieldManager",
    "fieldValidation",
    "dryRun",
    "force",
    "propagationPolicy",
    "orphanDependents",
    "gracePeriodSeconds",
    "includeObject",
    "pretty",
)
WORDS = st.sampled_from(
    [
        "a",
        "a>+-5",
        "a<-+5",
        "a>٣",
        "a in (",
        "!",
        ",",
        "metadata.name=",
        "\\",
        "9" * 30,
        "²",
        "W1tbW1s",
        "[" * 900,
        "\x00",
        "é",
        "All",
        "true",
    ]
)
TOKENS = st.sampled_from(
    [
        base64.urlsafe_b64encode(text).decode()
        for text in (b"[" * 3_000, b'["1","\\ud800","b"]', b"[1,2,3]", b"9" * 4_400)
    ]
)
QUERIES = st.dictionaries(
    st.sampled_from(PARAMETERS),
    TOKENS | st.lists(WORDS, max_size=4).map("".join) | st.text(max_size=20),
    max_size=4,
)


@given(
    query=QUERIES,
    method=st.sampled_from(["GET", "DELETE", "POST", "PATCH", "PUT"]),
    path=st.sampled_from(
        [
            MAPS,
            f"{FREE}/gone",
            f"{FREE}/x",
            "/api/v1/events",
            f"{FREE}/x/%00%ff",
            f"{FREE}/x/scale",
            "/apis/%ff/v1",
            "/api/v1/%2f",
        ]
    ),
    accept=st.sampled_from(
        ["*/*", "application/json;as=Table;v=v1;g=meta.k8s.io", ";;;=,", "a" * 3_000]
    ),
)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_answered(
    api: ApiUnderTest, query: dict[str, str], method: str, path: str, accept: str
) -> None:
    """Parameters, paths and Accept headers with arbitrary content."""
    if method == "DELETE" and path == MAPS:
        path = "/api/v1/namespaces/gone/configmaps"
    types = {"PATCH": "application/merge-patch+json"}
    text = urlencode({name: value.encode("utf-8", "replace") for name, value in query.items()})
    answer = api.request(
        method,
        f"{path}?{text}",
        content=b"{}",
        headers={"Content-Type": types.get(method, "application/json"), "Accept": accept},
    )
    assert answer.status < 500 or answer.status == 504, (
        f"{method} {path}?{text}: {answer.status} {answer.data[:300]!r}"
    )
