"""Conversion between the versions of EventType, and of a kind whose versions do not differ."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace_apiserver.kinds.served import ServedKind
from headrace_controller.builtin_crds import load_catalog

CATALOG = load_catalog()
GROUP = "eventing.knative.dev"


def _version(version: str, plural: str = "eventtypes", group: str = GROUP) -> ServedKind:
    served = CATALOG.of_path(group, version, plural)
    assert served is not None
    return served


def _event_type(version: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "EventType",
        "metadata": {"name": "a"},
        "spec": spec,
    }


def _converted(document: Mapping[str, Any], served: ServedKind) -> Mapping[str, Any]:
    return served.convert(document)


OLD = _event_type(
    "v1beta2",
    type="order.paid",
    source="/tills",
    schema="https://schemas.example/order",
    description="Paid",
)
NEW = _event_type(
    "v1beta3",
    description="Paid",
    attributes=[
        {"name": "specversion", "required": True},
        {"name": "type", "required": True, "value": "order.paid"},
        {"name": "source", "required": True, "value": "/tills"},
        {"name": "id", "required": True},
        {"name": "schemadata", "required": False, "value": "https://schemas.example/order"},
    ],
)


def test_fields_become_attributes_and_back() -> None:
    """The two ways of saying the same are each other's conversion."""
    assert NEW == _converted(OLD, _version("v1beta3"))
    assert OLD == _converted(NEW, _version("v1beta2"))


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "a"},
        {"type": "a", "broker": "default", "schemaData": "{}"},
        {"type": "a", "reference": {"apiVersion": "v1", "kind": "Service", "name": "x"}},
        {},
    ],
)
def test_old_objects_come_back_as_they_were(spec: dict[str, Any]) -> None:
    """Nothing of an older object is lost or added by a visit to the newer version."""
    document = _event_type("v1beta2", **spec)
    assert document == _converted(_converted(document, _version("v1beta3")), _version("v1beta2"))


@pytest.mark.parametrize(
    "attributes",
    [
        [],
        [{"name": "type", "required": True, "value": "a"}],
        [
            {"name": "id", "required": True},
            {"name": "type", "required": True, "value": "{x}.a"},
            {"name": "tenant", "required": False},
        ],
        [
            {"name": "type", "value": "a", "required": False},
            {"name": "specversion", "value": "1.0", "required": True},
        ],
    ],
)
def test_new_objects_come_back_as_they_were(attributes: list[dict[str, Any]]) -> None:
    """Attributes that the older versions have no fields for, and their order, survive a visit to
    them.
    """
    document = _event_type("v1beta3", attributes=attributes)
    assert document == _converted(_converted(document, _version("v1beta2")), _version("v1beta3"))


def test_changes_through_an_older_version_reach_the_attributes() -> None:
    """The fields are what an older version writes: they win, and what they do not speak of
    stays.
    """
    attributes = [
        {"name": "type", "required": True, "value": "a"},
        {"name": "tenant", "required": True, "value": "t"},
    ]
    stored = dict(_converted(_event_type("v1beta3", attributes=attributes), _version("v1beta2")))
    stored["spec"] = {**stored["spec"], "type": "b", "schema": "https://schemas.example/b"}
    assert [
        {"name": "type", "required": True, "value": "b"},
        {"name": "tenant", "required": True, "value": "t"},
        {"name": "schemadata", "required": False, "value": "https://schemas.example/b"},
    ] == _converted(stored, _version("v1beta3"))["spec"]["attributes"]


def test_schema_taken_away_through_an_older_version_is_gone() -> None:
    """An attribute does not keep what its field no longer says."""
    attributes = [
        {"name": "x"},
        {"name": "type", "value": "a"},
        {"name": "schemadata", "value": "https://schemas.example/a"},
    ]
    stored = dict(_converted(_event_type("v1beta3", attributes=attributes), _version("v1beta2")))
    stored["spec"] = {name: value for name, value in stored["spec"].items() if name != "schema"}
    assert [{"name": "x"}, {"name": "type", "value": "a"}] == _converted(
        stored, _version("v1beta3")
    )["spec"]["attributes"]


def test_versions_with_the_same_fields_change_their_name_only() -> None:
    """KafkaSource, and the three older EventTypes."""
    document = {
        "apiVersion": "sources.knative.dev/v1beta1",
        "kind": "KafkaSource",
        "spec": {"topics": ["a"]},
    }
    assert {**document, "apiVersion": "sources.knative.dev/v1"} == _converted(
        document, _version("v1", "kafkasources", "sources.knative.dev")
    )
    for older in ("v1beta1", "v1alpha1"):
        assert _event_type(older, type="a") == _converted(
            _event_type("v1beta2", type="a"), _version(older)
        )


def test_same_version_is_the_same_object() -> None:
    """Nothing is copied where nothing is converted."""
    assert OLD is _converted(OLD, _version("v1beta2"))


@pytest.mark.parametrize(
    "spec", [None, "text", {"attributes": "text"}, {"attributes": [1, {"name": None}, {}]}]
)
def test_malformed_objects_are_not_repaired(spec: Any) -> None:
    """Whatever a client sends, conversion lets admission say what is wrong with it."""
    document = {**_event_type("v1beta3"), "spec": spec}
    assert spec == _converted(document, _version("v1beta2"))["spec"]
