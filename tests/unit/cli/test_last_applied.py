"""The annotation from which `kubectl apply` continues: when it is written, and when not."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from headrace_cli.last_applied import ANNOTATION, BYTES_MAX, last_applied

DOCUMENT = {
    "kind": "Broker",
    "apiVersion": "eventing.knative.dev/v1",
    "metadata": {"name": "b", "annotations": {ANNOTATION: "of a file that was exported"}},
}
TEXT = (
    '{"apiVersion":"eventing.knative.dev/v1","kind":"Broker",'
    '"metadata":{"annotations":{},"name":"b","namespace":"n"}}\n'
)


def _stored(annotation: str | None = None, **more: Any) -> Mapping[str, Any]:
    annotations = {} if annotation is None else {"annotations": {ANNOTATION: annotation}}
    return {**DOCUMENT, "metadata": {"name": "b", **annotations}, **more}


def _patch(text: str | None) -> Mapping[str, Any]:
    return {"metadata": {"annotations": {ANNOTATION: text}}}


def test_a_created_object_gets_it() -> None:
    """With the namespace, and without the annotation itself."""
    assert _patch(TEXT) == last_applied(DOCUMENT, "n", _stored(), created=True)
    assert last_applied(DOCUMENT, "n", _stored(TEXT), created=False) is None


def test_it_is_kept_up_to_date_where_it_is() -> None:
    """An object that others created without it stays without it."""
    assert _patch(TEXT) == last_applied(DOCUMENT, "n", _stored("{}"), created=False)
    assert last_applied(DOCUMENT, "n", _stored(), created=False) is None


def test_a_secret_gets_it_from_kubectl_only() -> None:
    """It would be a copy of the values."""
    secret = {"apiVersion": "v1", "kind": "Secret"}
    assert last_applied({**DOCUMENT, **secret}, "n", _stored(**secret), created=True) is None
    stored = _stored("{}", **secret)
    patch = last_applied({**DOCUMENT, **secret}, "n", stored, created=False)
    assert patch is not None


def test_what_others_have_applied_and_is_still_there_stays() -> None:
    """kubectl removes only what the annotation has. What this apply has removed is left out."""
    document = {**DOCUMENT, "spec": {"delivery": {"retry": 1}, "list": [1]}}
    earlier = {
        "metadata": {"labels": {"a": "b"}, "name": "b"},
        "spec": {"delivery": {"retry": 9, "timeout": "PT1S"}, "config": {"x": 1}, "list": [2]},
    }
    stored = {
        **_stored(json.dumps(earlier)),
        "spec": {"delivery": {"retry": 1, "timeout": "PT1S", "backoff": 1}, "list": [1]},
    }
    patch = last_applied(document, "n", stored, created=False)
    assert patch is not None
    assert {"delivery": {"retry": 1, "timeout": "PT1S"}, "list": [1]} == json.loads(
        patch["metadata"]["annotations"][ANNOTATION]
    )["spec"]
    assert "labels" not in patch["metadata"]["annotations"][ANNOTATION]


@pytest.mark.parametrize("earlier", ["", "{", "[]", "null", '{"spec": null, "metadata": 1}'])
def test_an_annotation_of_other_programs_is_replaced(earlier: str) -> None:
    """Whatever its text is."""
    assert _patch(TEXT) == last_applied(DOCUMENT, "n", _stored(earlier), created=False)


def test_one_that_would_be_too_large_is_left_out() -> None:
    """And an old one is removed: kubectl would continue from a wrong configuration."""
    large = {**DOCUMENT, "spec": {"text": "x" * BYTES_MAX}}
    assert last_applied(large, "n", _stored(), created=True) is None
    assert _patch(None) == last_applied(large, "n", _stored("{}"), created=False)


def test_a_kind_without_namespaces() -> None:
    """The text has no namespace."""
    patch = last_applied(DOCUMENT, "", _stored(), created=True)
    assert patch == _patch(TEXT.replace(',"namespace":"n"', ""))
