"""The catalog: which kinds it serves under which names, and the limits of user definitions."""

import copy
import json
from typing import Any

import pytest

from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.resource import ResourceKey
from headrace_apiserver.admission.admit import admit
from headrace_apiserver.kinds import catalog as catalogs
from headrace_apiserver.kinds.catalog import Catalog, version_order
from headrace_apiserver.kinds.discovery import Discovery
from headrace_apiserver.statuses import StatusError
from headrace_controller.builtin_crds import custom_definitions, load_catalog
from headrace_controller.reconcile.kinds import RECONCILERS

CATALOG = load_catalog()
DEFINITIONS = "apiextensions.k8s.io", "v1", "customresourcedefinitions"


def gadget(**changes: Any) -> dict[str, Any]:
    """A user's definition."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1}}}
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {
        "group": "shop.dev",
        "scope": "Namespaced",
        "names": {"kind": "Gadget", "plural": "gadgets"},
        "versions": [version],
        **changes,
    }
    name = f"{spec['names']['plural']}.{spec['group']}"
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return {**head, "metadata": {"name": name}, "spec": spec}


def _rejection(
    definition: dict[str, Any], old: dict[str, Any] | None = None
) -> list[tuple[str, str]]:
    served = CATALOG.of_path(*DEFINITIONS)
    assert served is not None
    with pytest.raises(StatusError) as refused:
        admit(served, definition, old=old, kinds=CATALOG)
    return [
        (cause["field"], cause["message"])
        for cause in refused.value.status["details"].get("causes", [])
    ]


def test_the_kinds_of_today_are_listed_before_those_of_2019() -> None:
    """Of two kinds with one name, kubectl takes the one that is listed first."""
    groups = list(dict.fromkeys(served.kind.group for served in CATALOG))
    first = ["", "messaging.knative.dev", "sources.headrace.dev", "sources.knative.dev"]
    assert first == groups[:4]
    assert sorted(groups[4:]) == groups[4:]
    listed = json.loads(Discovery(CATALOG).groups())["groups"]
    assert first[1:] == [each["name"] for each in listed[:3]]
    old = {"eventing.knative.dev", "sources.eventing.knative.dev"}
    seen: dict[str, str] = {}
    for served in CATALOG:
        before = seen.setdefault(served.kind.plural, served.kind.group)
        assert before == served.kind.group or before not in old, served.kind.plural


def test_serves_all_reconciled_kinds() -> None:
    """Every kind that the controller reconciles is served in its version, or known as an internal
    kind.
    """
    for kind in RECONCILERS.stored_kinds:
        found = CATALOG.of_path(kind.group, kind.version, kind.plural)
        assert kind.served == (found is not None), kind.kind
        if found is not None:
            assert (kind.kind, kind.singular, kind.namespaced) == (
                found.kind.kind,
                found.kind.singular,
                found.kind.namespaced,
            )
    assert OWNERSHIP_RECORD == CATALOG.of_key(
        ResourceKey(OWNERSHIP_RECORD.group, OWNERSHIP_RECORD.plural, "", "x")
    )


def test_finds_kinds_by_every_name() -> None:
    """A path, an object's type and a stored key lead to the same kind; other names to none."""
    served = CATALOG.of_path("eventing.knative.dev", "v1beta3", "eventtypes")
    assert served is not None
    assert served is CATALOG.of_type("eventing.knative.dev/v1beta3", "EventType")
    assert "v1beta2" == served.storage.version
    assert served.storage == CATALOG.of_key(
        ResourceKey("eventing.knative.dev", "eventtypes", "a", "b")
    )
    assert CATALOG.stored(served) is CATALOG.of_path(
        "eventing.knative.dev", "v1beta2", "eventtypes"
    )
    assert CATALOG.of_path("eventing.knative.dev", "v9", "eventtypes") is None
    assert CATALOG.of_type("v1", "Pod") is None


def test_short_names_categories_and_columns_of_knative() -> None:
    """People and scripts know them."""
    channel = CATALOG.of_path("messaging.knative.dev", "v1", "channels")
    broker = CATALOG.of_path("eventing.knative.dev", "v1", "brokers")
    assert channel is not None and broker is not None
    assert ("ch",) == channel.kind.short_names
    assert ("all", "knative", "messaging", "channel") == channel.kind.categories
    assert ["URL", "Age", "Ready", "Reason", "Class"] == [column.name for column in broker.columns]
    assert [0, 0, 0, 0, 1] == [column.priority for column in broker.columns]
    assert ".metadata.creationTimestamp" == broker.columns[1].json_path


def test_only_custom_kinds_and_definitions_have_a_generation() -> None:
    """As in Kubernetes."""
    counted = {served.kind.kind for served in CATALOG if served.kind.has_generation}
    assert {"Broker", "CustomResourceDefinition"} <= counted
    assert not counted & {"ConfigMap", "Secret", "Namespace", "Service", "Event"}


def test_deprecated_versions_have_a_warning() -> None:
    """Clients that use them get it."""
    old = CATALOG.of_path("eventing.knative.dev", "v1beta1", "eventtypes")
    new = CATALOG.of_path("eventing.knative.dev", "v1beta2", "eventtypes")
    assert old is not None and new is not None
    assert old.deprecation is not None and "v1beta1" in old.deprecation
    assert new.deprecation is None


def test_a_definition_is_served_and_removed_at_once() -> None:
    """It adds, changes and removes a kind. Each change results in another revision, the cache key
    of clients.
    """
    catalog = load_catalog()
    revisions = {catalog.revision}
    status = catalog.put(gadget())
    served = catalog.of_path("shop.dev", "v1", "gadgets")
    revisions.add(catalog.revision)
    assert served is not None and served.custom
    assert ["True", "True"] == [each["status"] for each in status["conditions"]]
    assert {
        "kind": "Gadget",
        "plural": "gadgets",
        "singular": "gadget",
        "listKind": "GadgetList",
    } == status["acceptedNames"]
    assert ["v1"] == status["storedVersions"]
    assert ["Age"] == [column.name for column in served.columns]

    catalog.put(gadget(scope="Cluster"))
    revisions.add(catalog.revision)
    catalog.put(gadget(scope="Cluster"))
    changed = catalog.of_path("shop.dev", "v1", "gadgets")
    assert changed is not None and not changed.kind.namespaced

    before = catalog.revision
    catalog.remove("gadgets.shop.dev")
    assert catalog.of_path("shop.dev", "v1", "gadgets") is None
    assert 3 == len(revisions)
    assert before != catalog.revision


def test_stored_versions_are_kept() -> None:
    """If another version becomes the stored one, older objects may be stored in the earlier
    version.
    """
    definition = gadget()
    definition["status"] = {"storedVersions": ["v1alpha1"]}
    assert ["v1alpha1", "v1"] == Catalog([]).put(definition)["storedVersions"]


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("Plural", {"kind": "Other", "plural": "gadgets", "singular": "other"}),
        ("Kind", {"kind": "Gadget", "plural": "others", "singular": "other"}),
        (
            "ShortNames",
            {"kind": "Other", "plural": "others", "singular": "other", "shortNames": ["gadget"]},
        ),
    ],
)
def test_a_definition_with_a_name_in_use_is_not_served(part: str, names: dict[str, Any]) -> None:
    """Its status shows the name."""
    catalog = Catalog([])
    catalog.put(gadget())
    other = gadget(names=names)
    other["metadata"]["name"] = "others.shop.dev"
    status = catalog.put(other)
    assert [
        ("NamesAccepted", "False", f"{part}Conflict"),
        ("Established", "False", "NotAccepted"),
    ] == [(each["type"], each["status"], each["reason"]) for each in status["conditions"]]
    served = catalog.of_path("shop.dev", "v1", "gadgets")
    assert served is not None and served.kind.kind == "Gadget"


def test_a_definition_with_the_name_of_an_internal_kind_is_not_served() -> None:
    """An earlier version may have stored one; it must not show the internal records."""
    catalog = Catalog([], reconciled=RECONCILERS.stored_kinds)
    status = catalog.put(
        gadget(
            group=OWNERSHIP_RECORD.group,
            names={"kind": OWNERSHIP_RECORD.kind, "plural": OWNERSHIP_RECORD.plural},
            scope="Cluster",
        )
    )
    assert ("NamesAccepted", "False", "PluralConflict") == tuple(
        status["conditions"][0][field] for field in ("type", "status", "reason")
    )
    assert catalog.of_path(OWNERSHIP_RECORD.group, "v1", OWNERSHIP_RECORD.plural) is None
    assert OWNERSHIP_RECORD == catalog.of_key(
        ResourceKey(OWNERSHIP_RECORD.group, OWNERSHIP_RECORD.plural, "", "x")
    )


def test_the_number_of_definitions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of users."""
    monkeypatch.setattr(catalogs, "CUSTOM_MAX", 3)
    catalog = Catalog([])
    for index in range(3):
        catalog.put(gadget(group=f"g{index}.dev"))
    status = catalog.put(gadget(group="more.dev"))
    assert "False" == status["conditions"][0]["status"]
    assert "there are 3 definitions" in status["conditions"][0]["message"]


def test_builtin_definitions_cannot_be_changed() -> None:
    """Nor removed."""
    catalog = load_catalog()
    before = catalog.revision
    brokers = copy.deepcopy(
        next(
            each
            for each in catalog.builtin_definitions()
            if each["spec"]["names"]["kind"] == "Broker"
        )
    )
    brokers["spec"]["names"]["shortNames"] = ["b"]
    catalog.put(brokers)
    catalog.remove("brokers.eventing.knative.dev")
    assert before == catalog.revision
    assert catalog.is_builtin("brokers.eventing.knative.dev")
    served = CATALOG.of_path(*DEFINITIONS)
    assert served is not None
    with pytest.raises(StatusError) as refused:
        admit(served, brokers, kinds=catalog)
    assert 403 == refused.value.code


def test_builtin_definitions_are_valid() -> None:
    """They would be admitted from a user, with all rules."""
    served = CATALOG.of_path(*DEFINITIONS)
    assert served is not None
    for definition in custom_definitions():
        assert definition["spec"] == admit(served, definition).document["spec"] | {
            "conversion": definition["spec"].get("conversion")
        }


@pytest.mark.parametrize(
    ("version", "newer"),
    [
        ("v1", "v2"),
        ("v1beta1", "v1"),
        ("v1alpha1", "v1beta1"),
        ("v1beta1", "v1beta2"),
        ("foo", "v1alpha1"),
        ("v9", "v10"),
    ],
)
def test_stable_versions_come_first(version: str, newer: str) -> None:
    """Clients use the first version in the list."""
    assert [newer, version] == sorted([version, newer], key=version_order)


def _with_schema(**schema: Any) -> dict[str, Any]:
    definition = gadget()
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {"type": "object", **schema}
    return definition


def _with_two_stored_versions() -> dict[str, Any]:
    version = gadget()["spec"]["versions"][0]
    return gadget(versions=[version, {**version, "name": "v2"}])


_BOTH = {
    "type": "object",
    "properties": {"b": {"type": "string"}},
    "additionalProperties": {"type": "string"},
}
_PATH = "spec.versions[0].schema.openAPIV3Schema"


@pytest.mark.parametrize(
    ("field", "message", "definition"),
    [
        ("spec.group", "should be a domain with at least one dot", gadget(group="shop")),
        ("spec.group", "this group is reserved", gadget(group=OWNERSHIP_RECORD.group)),
        ("spec.group", "this group is reserved", gadget(group=f"more.{OWNERSHIP_RECORD.group}")),
        ("spec.group", "this group is reserved", gadget(group="authorization.k8s.io")),
        (
            "spec.versions",
            "must have exactly one version marked as storage version",
            _with_two_stored_versions(),
        ),
        ("spec.scope", 'supported values: "Cluster", "Namespaced"', gadget(scope="World")),
        (
            "spec.conversion.strategy",
            'supported values: "None"',
            gadget(conversion={"strategy": "Webhook"}),
        ),
        (f"{_PATH}.properties[a].type", "Required value", _with_schema(properties={"a": {}})),
        (
            f"{_PATH}.properties[a].type",
            'Unsupported value: "text"',
            _with_schema(properties={"a": {"type": "text"}}),
        ),
        (
            f"{_PATH}.properties[a].items",
            "Required value",
            _with_schema(properties={"a": {"type": "array"}}),
        ),
        (
            f"{_PATH}.properties[a].pattern",
            "must be a valid regular",
            _with_schema(properties={"a": {"type": "string", "pattern": "("}}),
        ),
        (
            f"{_PATH}.properties[a].default",
            "must be of type string",
            _with_schema(properties={"a": {"type": "string", "default": 5}}),
        ),
        (
            f"{_PATH}.properties[a].default",
            "must be pruned",
            _with_schema(properties={"a": {"type": "object", "default": {"b": 1}}}),
        ),
        (
            f"{_PATH}.properties[a].additionalProperties",
            "mutual exclusive",
            _with_schema(properties={"a": _BOTH}),
        ),
        (f"{_PATH}.$ref", "$ref is not supported", _with_schema(**{"$ref": "#/x"})),
        (
            f"{_PATH}.x-kubernetes-validations[0].rule",
            "compilation failed",
            _with_schema(**{"x-kubernetes-validations": [{"rule": "nope("}]}),
        ),
        (
            f"{_PATH}.x-kubernetes-validations[0].rule",
            "Required value",
            _with_schema(**{"x-kubernetes-validations": [{"message": "x"}]}),
        ),
    ],
)
def test_unsupported_definitions_are_rejected(
    field: str, message: str, definition: dict[str, Any]
) -> None:
    """A kind that could be served only partly is not served; the message names the field."""
    assert any(field == where and message in text for where, text in _rejection(definition)), (
        _rejection(definition)
    )


def test_the_name_of_a_definition() -> None:
    """`metadata.name` is plural and group."""
    definition = gadget()
    definition["metadata"]["name"] = "x.shop.dev"
    assert [
        ("metadata.name", 'Invalid value: "x.shop.dev": must be spec.names.plural+"."+spec.group')
    ] == _rejection(definition)


def test_scope_and_group_of_a_definition_are_immutable() -> None:
    """Existing objects must stay reachable."""
    served = CATALOG.of_path(*DEFINITIONS)
    assert served is not None
    old = admit(served, gadget()).document
    assert [("spec.scope", 'Invalid value: "object": field is immutable')] == _rejection(
        gadget(scope="Cluster"), old
    )


def test_schemas_of_definitions_are_limited() -> None:
    """A schema of any depth or size is rejected without a stack overflow or long work."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(61):
        deep = {"type": "object", "properties": {"a": deep}}
    wide = {f"p{index}": {"type": "string"} for index in range(10_001)}
    ruled = {"type": "object", "x-kubernetes-validations": [{"rule": "true"}] * 501}
    assert "nested deeper" in _rejection(_with_schema(properties={"a": deep}))[0][1]
    assert "rules in it" in _rejection(_with_schema(properties={"a": ruled}))[0][1]
    assert any("schemas in it" in text for _, text in _rejection(_with_schema(properties=wide)))
