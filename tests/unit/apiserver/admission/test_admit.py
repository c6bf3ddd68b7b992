"""Admission of the kinds there are: the order of checks, defaults, status writes, and the samples
that go with the definitions.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_apiserver.admission.admit import Admitted, decode
from headrace_apiserver.kinds.served import ServedKind
from headrace_apiserver.requests.options import Strictness
from headrace_apiserver.statuses import StatusError
from headrace_controller.builtin_crds import load_catalog
from tests.support.api_admission import admit_document as admit

CATALOG = load_catalog()
SAMPLES = Path(__file__).parents[3] / "conformance" / "crds"


def _served(api_version: str, kind: str) -> ServedKind:
    found = CATALOG.of_type(api_version, kind)
    assert found is not None, (api_version, kind)
    return found


BROKER = _served("eventing.knative.dev/v1", "Broker")
TRIGGER = _served("eventing.knative.dev/v1", "Trigger")
SECRET = _served("v1", "Secret")
CONFIG_MAP = _served("v1", "ConfigMap")


def _object(served: ServedKind, **content: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "default", **content.pop("metadata", {})}
    return {
        "apiVersion": served.kind.api_version,
        "kind": served.kind.kind,
        "metadata": metadata,
        **content,
    }


def _trigger(**spec: Any) -> dict[str, Any]:
    return _object(
        TRIGGER, spec={"broker": "default", "subscriber": {"uri": "http://example.com"}, **spec}
    )


def _refused(served: ServedKind, document: dict[str, Any], **options: Any) -> StatusError:
    with pytest.raises(StatusError) as refused:
        admit(served, document, **options)
    return refused.value


def _load(folder: str) -> list[Any]:
    paths = sorted((SAMPLES / folder).glob("*.yaml"))
    return [
        pytest.param(yaml.safe_load(path.read_text(encoding="utf-8")), id=path.stem)
        for path in paths
    ]


def _admit_sample(manifest: dict[str, Any], old: dict[str, Any] | None = None) -> Admitted:
    document = copy.deepcopy(manifest)
    document["metadata"].setdefault("namespace", "default")
    return admit(_served(document["apiVersion"], document["kind"]), document, old=old)


@pytest.mark.parametrize("sample", _load("valid"))
def test_valid_samples_are_admitted(sample: dict[str, Any]) -> None:
    """What a real API server takes is taken, and taken again as it came out without a change."""
    once = _admit_sample(sample)
    assert once == _admit_sample(once.document, once.document)


@pytest.mark.parametrize("sample", _load("changes"))
def test_allowed_changes_are_admitted(sample: dict[str, Any]) -> None:
    """What may change in a cluster may change here."""
    admitted = _admit_sample(sample["manifest"], _admit_sample(sample["before"]).document)
    assert sample["manifest"]["metadata"]["name"] == admitted.document["metadata"]["name"]


@pytest.mark.parametrize("sample", _load("invalid"))
def test_invalid_samples_are_refused(sample: dict[str, Any]) -> None:
    """What a real API server refuses is refused: by its causes, or before them in the words of the
    kind's own rules.
    """
    old = _admit_sample(sample["before"]).document if "before" in sample else None
    with pytest.raises(StatusError) as refused:
        _admit_sample(sample["manifest"], old)
    causes = refused.value.status.get("details", {}).get("causes") or []
    if refused.value.code == 422:
        for expected in sample["expected"]:
            assert any(
                (expected["field"], expected["reason"]) == (cause["field"], cause["reason"])
                and expected["message"] in cause["message"]
                for cause in causes
            ), (expected, causes)
    else:
        assert 400 == refused.value.code


def test_types_come_before_the_kinds_own_rules() -> None:
    """A rule of the kind never meets a value it cannot read; the schema answers."""
    error = _refused(BROKER, _object(BROKER, spec={"config": ["a"]}))
    assert 422 == error.code
    assert "spec.config in body must be of type object" in str(error)


def test_kinds_own_rules_come_before_values_and_cel() -> None:
    """What Knative's webhook would refuse is refused in its words and with its code."""
    error = _refused(TRIGGER, _trigger(broker=""))
    assert (400, "BadRequest") == (error.code, error.reason)
    assert "validation failed: missing field(s): spec.broker" == str(error)
    assert {
        "name": "a",
        "group": "eventing.knative.dev",
        "kind": "triggers",
    }.items() <= error.status["details"].items()


def test_kinds_own_defaults_are_filled_in() -> None:
    """What Knative's webhook would fill in is filled in."""
    document = admit(TRIGGER, _trigger()).document
    assert {} == document["spec"]["filter"]
    assert "default" == document["metadata"]["labels"]["eventing.knative.dev/broker"]


def test_what_clients_send_without_meaning_it_is_dropped() -> None:
    """Go clients send null times and empty statuses."""
    document = _trigger(delivery=None)
    document["metadata"]["creationTimestamp"] = None
    admitted = admit(TRIGGER, {**document, "status": {}}).document
    assert "creationTimestamp" not in admitted["metadata"]
    assert "delivery" not in admitted["spec"]


def test_documents_are_never_changed_in_place() -> None:
    """What a client sent is what the next check sees, too."""
    document = _trigger(unknown=1, delivery={"retry": None})
    before = copy.deepcopy(document)
    admit(TRIGGER, document, strictness=Strictness.WARN)
    assert before == document


def test_status_is_not_judged_by_a_write_to_the_rest() -> None:
    """A status that an earlier version wrote does not keep a spec from being changed."""
    old = {**_trigger(), "status": {"conditions": [{"type": 5}]}}
    assert admit(TRIGGER, {**_trigger(), "status": old["status"]}, old=old).document["spec"]


def test_status_write_changes_only_the_status() -> None:
    """Spec, labels and annotations sent along are ignored; what tells the version and the owners of
    fields is kept.
    """
    old = admit(TRIGGER, _trigger()).document
    metadata = {"resourceVersion": "7", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}]}
    sent = {
        **_object(TRIGGER, metadata=metadata, spec={"broker": 5}),
        "status": {"subscriberUri": "http://x"},
    }
    new = admit(TRIGGER, sent, old=old, subresource="status").document
    assert old["spec"] == new["spec"]
    assert (
        old["metadata"] | {"resourceVersion": "7", "managedFields": [{"manager": "m"}]}
        == new["metadata"]
    )
    assert {"subscriberUri": "http://x"} == new["status"]


def test_status_write_is_judged_by_the_schema_of_the_status() -> None:
    """A condition without a type is refused where it stands."""
    sent = {**_trigger(), "status": {"conditions": [{"status": "True"}]}}
    error = _refused(TRIGGER, sent, old=_trigger(), subresource="status")
    assert "status.conditions[0].type: Required value" in str(error)


def test_what_was_wrong_before_may_stay() -> None:
    """An object that was stored under a laxer schema can still be labelled; a new mistake in it is
    refused all the same.
    """
    served = _served("messaging.knative.dev/v1", "Subscription")
    channel = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "c" * 300}
    spec = {"channel": channel, "subscriber": {"uri": "http://example.com"}}
    old = _object(served, spec=spec)
    labelled = _object(served, spec=spec, metadata={"labels": {"a": "b"}})
    assert labelled["metadata"] == admit(served, labelled, old=old).document["metadata"]
    worse = {**spec, "channel": {**channel, "kind": "K" * 300}}
    assert ["spec.channel.kind"] == [
        cause["field"]
        for cause in _refused(served, _object(served, spec=worse), old=old).status["details"][
            "causes"
        ]
        if "Too long" in cause["message"]
    ]


def test_unknown_fields_by_strictness() -> None:
    """Refused, dropped with a warning, or dropped."""
    document = _trigger(brokr="x", subscriber={"uri": "http://example.com", "ur": "x"})
    expected = (
        'strict decoding error: unknown field "spec.brokr", unknown field "spec.subscriber.ur"'
    )
    assert str(_refused(TRIGGER, document)).endswith(expected)
    warned = admit(TRIGGER, document, strictness=Strictness.WARN)
    assert ('unknown field "spec.brokr"', 'unknown field "spec.subscriber.ur"') == warned.warnings
    ignored = admit(TRIGGER, document, strictness=Strictness.IGNORE)
    assert ((), warned.document) == (ignored.warnings, ignored.document)
    assert "brokr" not in ignored.document["spec"]


def test_a_function_that_does_not_exist_is_a_warning() -> None:
    """The expression is valid, and never matches: whoever writes it is told, however strict about
    fields.
    """
    filters = [{"cesql": "UPPR(type) = 'X'"}]
    admitted = admit(TRIGGER, _trigger(filters=filters))
    assert filters == admitted.document["spec"]["filters"]
    [warning] = admitted.warnings
    assert warning.startswith(
        "spec.filters[0].cesql: there is no function UPPR; perhaps UPPER is meant"
    )
    status = admit(
        TRIGGER,
        {**_trigger(filters=filters), "status": {}},
        old=admitted.document,
        subresource="status",
    )
    assert () == status.warnings


def test_decoding_gives_the_schemas_defaults_only() -> None:
    """What is decoded is not judged yet."""
    secret = decode(
        SECRET, _object(SECRET, data={"a": "not base64"}), strictness=Strictness.STRICT
    ).document
    assert "Opaque" == secret["type"]


def test_values_of_a_secret_are_not_repeated() -> None:
    """The answer to a Secret with a value that is not base64 does not hold the value."""
    error = _refused(SECRET, _object(SECRET, data={"password": "hunter2!"}))
    assert "data.password" in str(error)
    assert "hunter2" not in str(error)


def test_immutable_data_stays() -> None:
    """ConfigMaps and Secrets that say so cannot be changed, nor made changeable again."""
    old = admit(CONFIG_MAP, _object(CONFIG_MAP, data={"a": "b"}, immutable=True)).document
    changed = _refused(CONFIG_MAP, _object(CONFIG_MAP, data={"a": "c"}, immutable=True), old=old)
    loosened = _refused(CONFIG_MAP, _object(CONFIG_MAP, data={"a": "b"}), old=old)
    assert "data: Forbidden: field is immutable when `immutable` is set" in str(changed)
    assert "immutable: Forbidden" in str(loosened)
    labelled = _object(CONFIG_MAP, data={"a": "b"}, immutable=True, metadata={"labels": {"a": "b"}})
    assert labelled == admit(CONFIG_MAP, labelled, old=old).document


@pytest.mark.parametrize(
    ("told", "kind", "name"),
    [
        ("a DNS-1035 label", "Service", "1a"),
        ("must not contain dots", "Namespace", "a.b"),
        ("no more than 63 bytes", "Namespace", "a" * 64),
        ("a lowercase RFC 1123 subdomain", "ConfigMap", "A"),
    ],
)
def test_names_of_core_kinds(told: str, kind: str, name: str) -> None:
    """Namespaces and Services become host names, so their names are more narrow."""
    served = _served("v1", kind)
    document = _object(
        served,
        metadata={"name": name},
        **({"spec": {"ports": [{"port": 80}]}} if kind == "Service" else {}),
    )
    if not served.kind.namespaced:
        del document["metadata"]["namespace"]
    assert told in str(_refused(served, document))


def test_service_needs_a_place() -> None:
    """Without a cluster a Service is found by its external name; one of another type needs ports,
    as in a cluster.
    """
    served = _served("v1", "Service")
    outside = admit(
        served, _object(served, spec={"type": "ExternalName", "externalName": "example.com"})
    ).document
    inside = admit(
        served, _object(served, spec={"ports": [{"port": 80}], "sessionAffinityConfig": {"any": 1}})
    ).document
    assert "example.com" == outside["spec"]["externalName"]
    assert "TCP" == inside["spec"]["ports"][0]["protocol"]
    assert "spec.externalName: Required value" in str(
        _refused(served, _object(served, spec={"type": "ExternalName"}))
    )
    assert "spec.ports: Required value" in str(_refused(served, _object(served, spec={})))


def test_new_finalizers_cannot_be_added_to_what_is_deleted() -> None:
    """An object on its way out gets no new reason to stay."""
    old = _trigger()
    old["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/a"],
    }
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = ["example.com/a", "example.com/b"]
    assert "no new finalizers can be added if the object is being deleted" in str(
        _refused(TRIGGER, new, old=old)
    )


def test_annotations_are_bounded() -> None:
    """All annotations together have the size a record can bear."""
    document = _trigger()
    document["metadata"]["annotations"] = {"a": "x" * (256 * 1024)}
    assert "metadata.annotations: Too long: may not be more than 262144 bytes" in str(
        _refused(TRIGGER, document)
    )
