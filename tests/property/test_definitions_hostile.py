"""Definitions with arbitrary content: refused with a Status, or served without harm. Nothing in
between.
"""

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_apiserver.admission.admit import admit
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.core_definitions import core_definitions
from headrace_apiserver.kinds.discovery import Discovery
from headrace_apiserver.kinds.openapi import OpenApi
from headrace_apiserver.requests.options import Strictness
from headrace_apiserver.statuses import StatusError

CORE = core_definitions()
DEFINITIONS = Catalog([], core=CORE).of_path(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions"
)
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {
            "type": "integer",
            "minimum": 1,
            "maximum": 9,
            "default": 3,
            "enum": [1, 3],
            "multipleOf": 1,
        },
        "name": {
            "type": "string",
            "maxLength": 5,
            "pattern": "^a",
            "format": "date",
            "nullable": True,
        },
        "either": {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        },
        "list": {
            "type": "array",
            "maxItems": 3,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}},
        },
        "map": {
            "type": "object",
            "maxProperties": 2,
            "additionalProperties": {"type": "number", "allOf": [{"minimum": 0}]},
        },
    },
    "x-kubernetes-validations": [
        {
            "rule": "self.size > 0",
            "message": "m",
            "reason": "FieldValueInvalid",
            "fieldPath": ".size",
        }
    ],
}
VERSION = {
    "name": "v1",
    "served": True,
    "storage": True,
    "subresources": {
        "status": {},
        "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
    },
    "additionalPrinterColumns": [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}
    ],
    "schema": {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {"spec": SPEC, "status": {"type": "object"}},
        }
    },
}
GADGET: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.shop.dev"},
    "spec": {
        "group": "shop.dev",
        "scope": "Namespaced",
        "names": {
            "kind": "Gadget",
            "plural": "gadgets",
            "singular": "gadget",
            "shortNames": ["g"],
            "categories": ["all"],
        },
        "versions": [VERSION],
    },
}
VALUES = st.recursive(
    st.sampled_from(
        [
            None,
            True,
            False,
            -1,
            0,
            1,
            2.5,
            10**30,
            "",
            "a",
            "(",
            "string",
            "object",
            "map",
            "x" * 300,
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "type", "properties", "rule"]), inner, max_size=2)
    ),
    max_leaves=4,
)
OBJECTS: list[dict[str, Any]] = [
    {
        "spec": {
            "size": 1,
            "name": "abc",
            "either": 5,
            "list": [{"k": "a"}, {"k": "b"}],
            "map": {"a": 1},
        }
    },
    {"spec": {"list": [{}], "map": {"a": "x"}, "size": None, "nothing": []}, "status": {"a": 1}},
    {"spec": 5},
]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(found for name, each in inner for found in _paths(each, (*path, name)))]


PATHS = [path for path in _paths(GADGET) if path and path[0] in ("spec", "metadata")]


def _changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(GADGET)
    at: Any = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return changed


@given(st.sampled_from(PATHS), VALUES)
@settings(max_examples=400)
def test_what_is_admitted_can_be_served(path: tuple[Any, ...], value: Any) -> None:
    """A definition with one part replaced by an arbitrary value is refused, or its kind works in
    every part of the API.
    """
    assert DEFINITIONS is not None
    try:
        definition = admit(
            DEFINITIONS, _changed(path, value), strictness=Strictness.IGNORE
        ).document
    except StatusError as refused:
        assert refused.code in (400, 422)
        return
    catalog = Catalog([], core=CORE)
    catalog.put(definition)
    for served in [served for served in catalog if served.custom]:
        json.loads(OpenApi(catalog).document(served.kind.group, served.kind.version) or b"")
        Discovery(catalog).aggregated(core=False, version="v2")
        for content in OBJECTS:
            head: dict[str, Any] = {
                "apiVersion": served.kind.api_version,
                "kind": served.kind.kind,
                "metadata": {"name": "a", "namespace": "b"},
            }
            try:
                once = admit(served, {**head, **content}, strictness=Strictness.IGNORE).document
            except StatusError:
                continue
            assert once == admit(served, once, old=once).document
