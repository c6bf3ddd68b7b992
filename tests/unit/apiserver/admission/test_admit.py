"""Admission: the order of checks, defaults, writes of the status, and the samples of the built-in
kinds.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.resources.features import Features
from headrace.resources.system_config import SystemConfig
from headrace_apiserver.admission.admit import Admitted, decode
from headrace_apiserver.kinds.served import ServedKind
from headrace_apiserver.requests.options import Strictness
from headrace_apiserver.statuses import StatusError
from headrace_controller.builtin_crds import load_catalog
from tests.support.api_admission import admit_document as admit

CATALOG = load_catalog()
ALL_FLAGS = SystemConfig(features=Features(api_server_source_filters=True))
"""The flags that a sample needs."""
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


def _rejected(served: ServedKind, document: dict[str, Any], **options: Any) -> StatusError:
    with pytest.raises(StatusError) as rejected:
        admit(served, document, **options)
    return rejected.value


def _load(folder: str) -> list[Any]:
    paths = sorted((SAMPLES / folder).glob("*.yaml"))
    return [
        pytest.param(yaml.safe_load(path.read_text(encoding="utf-8")), id=path.stem)
        for path in paths
    ]


def _admit_sample(manifest: dict[str, Any], old: dict[str, Any] | None = None) -> Admitted:
    document = copy.deepcopy(manifest)
    served = _served(document["apiVersion"], document["kind"])
    if served.kind.namespaced:
        document["metadata"].setdefault("namespace", "default")
    return admit(served, document, old=old, system=ALL_FLAGS)


@pytest.mark.parametrize("sample", _load("valid"))
def test_valid_samples_are_admitted(sample: dict[str, Any]) -> None:
    """What a real API server accepts is admitted, and the result is admitted again without a
    change.
    """
    once = _admit_sample(sample)
    assert once == _admit_sample(once.document, once.document)


@pytest.mark.parametrize("sample", _load("changes"))
def test_allowed_changes_are_admitted(sample: dict[str, Any]) -> None:
    """What may change in a cluster may change here."""
    admitted = _admit_sample(sample["manifest"], _admit_sample(sample["before"]).document)
    assert sample["manifest"]["metadata"]["name"] == admitted.document["metadata"]["name"]


@pytest.mark.parametrize("sample", _load("invalid"))
def test_invalid_samples_are_rejected(sample: dict[str, Any]) -> None:
    """What a real API server rejects is rejected: with the same causes, or earlier by the rules of
    the kind.
    """
    old = _admit_sample(sample["before"]).document if "before" in sample else None
    with pytest.raises(StatusError) as rejected:
        _admit_sample(sample["manifest"], old)
    causes = rejected.value.status.get("details", {}).get("causes") or []
    if rejected.value.code == 422:
        for expected in sample["expected"]:
            assert any(
                (expected["field"], expected["reason"]) == (cause["field"], cause["reason"])
                and expected["message"] in cause["message"]
                for cause in causes
            ), (expected, causes)
    else:
        assert 400 == rejected.value.code


def test_types_are_checked_before_the_rules_of_the_kind() -> None:
    """A rule of the kind is never evaluated for a value of another type; the schema rejects it."""
    error = _rejected(BROKER, _object(BROKER, spec={"config": ["a"]}))
    assert 422 == error.code
    assert "spec.config in body must be of type object" in str(error)


def test_rules_of_the_kind_are_checked_before_values_and_cel() -> None:
    """What Knative's webhook would reject is rejected with its message and its code."""
    error = _rejected(TRIGGER, _trigger(broker=""))
    assert (400, "BadRequest") == (error.code, error.reason)
    assert "validation failed: missing field(s): spec.broker" == str(error)
    assert {
        "name": "a",
        "group": "eventing.knative.dev",
        "kind": "triggers",
    }.items() <= error.status["details"].items()


def test_defaults_of_the_kind_are_filled_in() -> None:
    """As Knative's webhook would."""
    document = admit(TRIGGER, _trigger()).document
    assert {} == document["spec"]["filter"]
    assert "default" == document["metadata"]["labels"]["eventing.knative.dev/broker"]


def test_null_times_and_empty_statuses_are_dropped() -> None:
    """Go clients send them unintentionally."""
    document = _trigger(delivery=None)
    document["metadata"]["creationTimestamp"] = None
    admitted = admit(TRIGGER, {**document, "status": {}}).document
    assert "creationTimestamp" not in admitted["metadata"]
    assert "delivery" not in admitted["spec"]


def test_documents_are_never_changed_in_place() -> None:
    """The next check sees the document of the client, too."""
    document = _trigger(unknown=1, delivery={"retry": None})
    before = copy.deepcopy(document)
    admit(TRIGGER, document, strictness=Strictness.WARN)
    assert before == document


def test_the_status_is_not_validated_by_other_writes() -> None:
    """An invalid status of an earlier version does not prevent changes of the spec."""
    old = {**_trigger(), "status": {"conditions": [{"type": 5}]}}
    assert admit(TRIGGER, {**_trigger(), "status": old["status"]}, old=old).document["spec"]


def test_a_status_write_changes_only_the_status() -> None:
    """Spec, labels and annotations in it are ignored; version and managed fields are kept."""
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


def test_a_status_write_is_validated_by_the_schema() -> None:
    """A condition without a type is rejected with its path."""
    sent = {**_trigger(), "status": {"conditions": [{"status": "True"}]}}
    error = _rejected(TRIGGER, sent, old=_trigger(), subresource="status")
    assert "status.conditions[0].type: Required value" in str(error)


def test_existing_errors_do_not_prevent_changes() -> None:
    """An object that was stored under a less strict schema can still be labelled; a new error in it
    is rejected.
    """
    served = _served("sources.knative.dev/v1", "PingSource")
    sink = {"apiVersion": "v1", "kind": "Service", "name": "c" * 300}
    spec = {"sink": {"ref": sink}}
    old = _object(served, spec=spec)
    labelled = _object(served, spec=spec, metadata={"labels": {"a": "b"}})
    assert labelled["metadata"] == admit(served, labelled, old=old).document["metadata"]
    worse = {"sink": {"ref": {**sink, "kind": "K" * 300}}}
    assert ["spec.sink.ref.kind"] == [
        cause["field"]
        for cause in _rejected(served, _object(served, spec=worse), old=old).status["details"][
            "causes"
        ]
        if "Too long" in cause["message"]
    ]


def test_unknown_fields_by_strictness() -> None:
    """Rejected, dropped with a warning, or dropped."""
    document = _trigger(brokr="x", subscriber={"uri": "http://example.com", "ur": "x"})
    expected = (
        'strict decoding error: unknown field "spec.brokr", unknown field "spec.subscriber.ur"'
    )
    assert str(_rejected(TRIGGER, document)).endswith(expected)
    warned = admit(TRIGGER, document, strictness=Strictness.WARN)
    assert ('unknown field "spec.brokr"', 'unknown field "spec.subscriber.ur"') == warned.warnings
    ignored = admit(TRIGGER, document, strictness=Strictness.IGNORE)
    assert ((), warned.document) == (ignored.warnings, ignored.document)
    assert "brokr" not in ignored.document["spec"]


def test_an_unknown_function_results_in_a_warning() -> None:
    """The expression is valid and never matches, so there is a warning with every strictness."""
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


def test_decoding_fills_in_the_defaults_of_the_schema_only() -> None:
    """A decoded document is not validated yet."""
    secret = decode(
        SECRET, _object(SECRET, data={"a": "not base64"}), strictness=Strictness.STRICT
    ).document
    assert "Opaque" == secret["type"]


def test_values_of_a_secret_are_not_shown() -> None:
    """The message about a value that is not base64 does not contain the value."""
    error = _rejected(SECRET, _object(SECRET, data={"password": "hunter2!"}))
    assert "data.password" in str(error)
    assert "hunter2" not in str(error)


def test_immutable_data() -> None:
    """Immutable ConfigMaps and Secrets cannot be changed, nor made mutable again."""
    old = admit(CONFIG_MAP, _object(CONFIG_MAP, data={"a": "b"}, immutable=True)).document
    changed = _rejected(CONFIG_MAP, _object(CONFIG_MAP, data={"a": "c"}, immutable=True), old=old)
    loosened = _rejected(CONFIG_MAP, _object(CONFIG_MAP, data={"a": "b"}), old=old)
    assert "data: Forbidden: field is immutable when `immutable` is set" in str(changed)
    assert "immutable: Forbidden" in str(loosened)
    labelled = _object(CONFIG_MAP, data={"a": "b"}, immutable=True, metadata={"labels": {"a": "b"}})
    assert labelled == admit(CONFIG_MAP, labelled, old=old).document


@pytest.mark.parametrize(
    ("message", "kind", "name"),
    [
        ("a DNS-1035 label", "Service", "1a"),
        ("must not contain dots", "Namespace", "a.b"),
        ("no more than 63 bytes", "Namespace", "a" * 64),
        ("a lowercase RFC 1123 subdomain", "ConfigMap", "A"),
    ],
)
def test_names_of_core_kinds(message: str, kind: str, name: str) -> None:
    """Namespaces and Services become host names, so the rules for their names are stricter."""
    served = _served("v1", kind)
    document = _object(
        served,
        metadata={"name": name},
        **({"spec": {"ports": [{"port": 80}]}} if kind == "Service" else {}),
    )
    if not served.kind.namespaced:
        del document["metadata"]["namespace"]
    assert message in str(_rejected(served, document))


def test_a_service_needs_an_external_name_or_ports() -> None:
    """Without a cluster a Service is found by its external name; other types need ports, as in a
    cluster.
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
        _rejected(served, _object(served, spec={"type": "ExternalName"}))
    )
    assert "spec.ports: Required value" in str(_rejected(served, _object(served, spec={})))


def test_no_finalizer_can_be_added_during_deletion() -> None:
    """A deleted object gets no new reason to stay."""
    old = _trigger()
    old["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/a"],
    }
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = ["example.com/a", "example.com/b"]
    assert "no new finalizers can be added if the object is being deleted" in str(
        _rejected(TRIGGER, new, old=old)
    )


def test_annotations_are_limited() -> None:
    """The total size of all annotations."""
    document = _trigger()
    document["metadata"]["annotations"] = {"a": "x" * (256 * 1024)}
    assert "metadata.annotations: Too long: may not be more than 262144 bytes" in str(
        _rejected(TRIGGER, document)
    )
