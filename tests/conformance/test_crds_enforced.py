"""The CRDs as API servers enforce them: every sample with a real kube-apiserver and with Headrace's
own API.

A valid object is accepted and comes back as it was sent; an invalid one is rejected with the same
causes by both. The one difference: Headrace's own API checks Brokers, Triggers and EventTypes by
Knative's rules first (400, as with its webhook), where a cluster without a webhook has only CEL.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests.support.kubernetes import CRDS, KubernetesUnderTest
from tests.unit.apiserver.running_api import running_api

SAMPLES = Path(__file__).parent / "crds"
DEFINITIONS = {
    (each["spec"]["group"], each["spec"]["names"]["kind"]): each["spec"]
    for each in map(yaml.safe_load, (p.read_text() for p in CRDS.glob("*.yaml")))
}
EXPECTED_WARNINGS = (
    "deprecated",
    "does not reconcile",
    "can never be called",
    "has no effect",
    "is not used",
    "spec.signature is not set",
)
Document = dict[str, Any]


class Server:
    """An API server: requests in JSON, responses as code, document and warnings."""

    def __init__(self, url: str, *, has_kind_rules: bool, **options: Any) -> None:
        """`has_kind_rules`: it validates by Knative's rules before the CRDs."""
        self.url = url
        self.has_kind_rules = has_kind_rules
        self._http = urllib3.PoolManager(timeout=20, retries=False, **options)
        self._created: list[str] = []

    def call(
        self, method: str, path: str, document: Document | None = None
    ) -> tuple[int, Document, list[str]]:
        """One request."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", **self._http.headers}
        answer = self._http.request(method, self.url + path, body=body, headers=headers)
        return answer.status, json.loads(answer.data), answer.headers.getlist("Warning")

    def create(self, document: Document) -> tuple[int, Document, list[str]]:
        """Create the object; an existing one is deleted first."""
        self.call("DELETE", f"{path_of(document)}/{document['metadata']['name']}")
        answer = self.call("POST", f"{path_of(document)}?fieldValidation=Strict", document)
        if answer[0] == 201:
            self._created.append(f"{path_of(document)}/{document['metadata']['name']}")
        return answer

    def clear(self) -> None:
        """Delete what was created. Other tests share the server, and their controllers would
        reconcile a hundred samples.
        """
        for path in self._created:
            self.call("DELETE", path)

    def change(self, before: Document, after: Document) -> tuple[int, Document, list[str]]:
        """Create `before`, then replace it by `after`."""
        code, made, _ = self.create(before)
        assert code == 201, made.get("message")
        where = f"{path_of(after)}/{after['metadata']['name']}"
        while True:
            wanted = {
                **after,
                "metadata": {
                    **after["metadata"],
                    "resourceVersion": made["metadata"]["resourceVersion"],
                },
            }
            answer = self.call("PUT", f"{where}?fieldValidation=Strict", wanted)
            if answer[0] != 409:
                break
            _, made, _ = self.call("GET", where)  # Its controller wrote to it in between.
        self.call("DELETE", f"{path_of(before)}/{before['metadata']['name']}")
        return answer


@pytest.fixture(scope="module", params=["headrace", "kube-apiserver"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One of the two."""
    if request.param == "headrace":
        with running_api() as api:
            yield _with_features(Server(api.url, has_kind_rules=True))
        return
    kubernetes: KubernetesUnderTest = request.getfixturevalue("kubernetes")
    server = Server(
        kubernetes.server,
        has_kind_rules=False,
        ca_certs=str(kubernetes.ca),
        headers=kubernetes.authorization,
    )
    yield server
    server.clear()


def _with_features(server: Server) -> Server:
    """With the features whose fields the samples have."""
    flags = {"new-apiserversource-filters": "enabled"}
    config = {"metadata": {"name": "config-features"}, "data": flags}
    namespace = "/api/v1/namespaces/knative-eventing"
    code, made, _ = server.call("POST", f"{namespace}/configmaps", config)
    if code == 404:
        server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "knative-eventing"}})
        code, made, _ = server.call("POST", f"{namespace}/configmaps", config)
    assert code == 201, made.get("message")
    return server


def path_of(document: Document) -> str:
    """The path of the collection of a document."""
    definition = DEFINITIONS[document["apiVersion"].partition("/")[0], document["kind"]]
    within = "namespaces/default/" if definition["scope"] == "Namespaced" else ""
    return f"/apis/{document['apiVersion']}/{within}{definition['names']['plural']}"


def samples(folder: str) -> Callable[[Any], Any]:
    """Run a test with every file of a folder."""
    files = sorted((SAMPLES / folder).glob("*.yaml"))
    assert files, f"{folder} has samples"
    return pytest.mark.parametrize(
        "sample",
        [yaml.safe_load(each.read_text()) for each in files],
        ids=[each.stem for each in files],
    )


@samples("valid")
def test_a_valid_sample_is_accepted(server: Server, sample: Document) -> None:
    """201, with a warning only for a deprecated version or a kind that is not reconciled. Nothing
    that was sent is missing in the response.
    """
    code, made, warnings = server.create(sample)
    assert code == 201, made.get("message")
    assert [] == [
        each for each in warnings if not any(known in each for known in EXPECTED_WARNINGS)
    ]
    assert [] == lost(sample, made)
    _, read, _ = server.call("GET", f"{path_of(sample)}/{sample['metadata']['name']}")
    assert [] == lost(sample, read)


def test_a_trigger_without_a_filter_gets_an_empty_one(server: Server) -> None:
    """Knative's webhook fills it in, in a cluster the CRD does."""
    code, made, _ = server.create(_trigger("unfiltered", "default"))
    assert (201, {}) == (code, made["spec"]["filter"])


def test_a_broker_of_a_long_name_can_be_named(server: Server) -> None:
    """A label value has at most 63 characters, a name 253: beyond 63 a Trigger has no label, and is
    accepted.
    """
    for length in (63, 64, 253):
        name = "b" * length
        named = {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Broker",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {},
        }
        assert 201 == server.create(named)[0]
        code, made, _ = server.create(_trigger(f"names-{length}", name))
        assert code == 201, made.get("message")
        assert name == made["spec"]["broker"]
        if server.has_kind_rules:
            assert (length == 63) == (
                "eventing.knative.dev/broker" in made["metadata"].get("labels", {})
            )
        server.call("DELETE", f"{path_of(named)}/{name}")


def test_subscribers_of_a_kafka_channel_are_not_for_users(server: Server) -> None:
    """They have no effect: a client that adds one gets Knative's error, in a cluster by the policy
    of the examples; one that creates a channel with them gets a warning.
    """
    entry = {"uid": "u-1", "subscriberUri": "http://a.example/"}
    plain: Document = {
        "apiVersion": "messaging.knative.dev/v1beta1",
        "kind": "KafkaChannel",
        "metadata": {"name": "subscribed", "namespace": "default"},
        "spec": {},
    }
    code, answer, _ = server.change(plain, {**plain, "spec": {"subscribers": [entry]}})
    if not server.has_kind_rules:
        assert code == 200  # tests/conformance/test_admission_policies.py has the policy.
        return
    assert code == 400
    assert answer["message"].startswith(
        "validation failed: Channel.Spec.Subscribers changed by user "
    )
    assert "service account: spec.subscribers\ncreate a Subscription instead" in answer["message"]
    other = {**plain, "metadata": {"name": "subscribed-before", "namespace": "default"}}
    code, _, warnings = server.create({**other, "spec": {"subscribers": [entry]}})
    assert code == 201
    assert any("spec.subscribers has no effect" in each for each in warnings)


def _trigger(name: str, broker: str) -> Document:
    spec = {"broker": broker, "subscriber": {"uri": "http://sink.example/"}}
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": metadata,
        "spec": spec,
    }


@samples("changes")
def test_an_allowed_change_is_accepted(server: Server, sample: Document) -> None:
    """Mutable fields can change, and absent fields can be filled in."""
    code, made, _ = server.change(sample["before"], sample["manifest"])
    assert code == 200, made.get("message")


@pytest.mark.clause("B5", "O7")
@samples("invalid")
def test_an_invalid_sample_is_rejected(server: Server, sample: Document) -> None:
    """With every expected cause, by field, reason and message."""
    if "before" in sample:
        code, answer, _ = server.change(sample["before"], sample["manifest"])
    else:
        code, answer, _ = server.create(sample["manifest"])
    assert 400 <= code < 500, f"taken: {sample['rule']}"
    if (
        server.has_kind_rules
        and code == 400
        and answer["message"].startswith("validation failed: ")
    ):
        fields = [
            each.get("field", "").rpartition(".")[2].partition("[")[0]
            for each in sample["expected"]
        ]
        # Knative names CACerts caCert, and its diff of a spec has the names of Go fields.
        assert [] == [
            field for field in fields if field.lower().rstrip("s") not in answer["message"].lower()
        ], answer["message"]
        return
    causes = (answer.get("details") or {}).get("causes") or []
    for expected in sample["expected"]:
        assert has_cause(expected, causes, answer["message"]), (
            f"{expected} is not among {causes or answer['message']}"
        )


def has_cause(expected: Mapping[str, str], causes: list[Document], message: str) -> bool:
    """Whether the response has an expected cause; an unknown field is only in the message."""
    if "field" not in expected:
        return expected["message"] in message
    same = [
        each
        for each in causes
        if each.get("field") == expected["field"] and each.get("reason") == expected["reason"]
    ]
    return any(expected["message"] in each["message"] for each in same)


def lost(sent: Any, kept: Any, path: str = "") -> list[str]:
    """Paths of fields that were sent and are missing; nulls and empty objects may be."""
    if isinstance(sent, dict):
        there = kept if isinstance(kept, dict) else {}
        named = ((name, value) for name, value in sent.items() if value not in (None, {}))
        return [
            each for name, value in named for each in lost(value, there.get(name), f"{path}.{name}")
        ]
    if isinstance(sent, list):
        items = kept if isinstance(kept, list) and len(kept) == len(sent) else [None] * len(sent)
        return [
            each
            for number, value in enumerate(sent)
            for each in lost(value, items[number], f"{path}[{number}]")
        ]
    return [] if sent is None or sent == kept else [path]
