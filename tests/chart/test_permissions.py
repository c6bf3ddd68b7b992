"""The permissions that the chart grants are those of `examples/kubernetes`, and no others."""

from typing import Any

import pytest
import yaml

from tests.chart.rendering import NAMESPACE, ROOT, Object, component, objects, of_kind

EXAMPLES = ROOT / "examples" / "kubernetes"
ROLES = ("ClusterRole", "Role")
BINDINGS = ("ClusterRoleBinding", "RoleBinding")
WHOLE_CLUSTER, SOME_NAMESPACES = "default", "namespaced"


def _example(name: str, *kinds: str) -> list[Object]:
    documents = yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8"))
    return [each for each in documents if each["kind"] in kinds]


def _chart(value_set: str, *kinds: str) -> list[Object]:
    """Without those of `helm test`."""
    return [each for each in of_kind(value_set, *kinds) if component(each) != "test"]


def _key(each: Object, *, name: str) -> tuple[Any, ...]:
    """A role without its metadata, in a form that can be compared."""
    duck = {
        key: text
        for key, text in each["metadata"].get("labels", {}).items()
        if key.startswith("duck.knative.dev/")
    }
    return each["kind"], name, duck, each.get("rules") or None, each.get("aggregationRule")


def test_the_roles_of_a_cluster_are_those_of_the_example() -> None:
    """Rule by rule, with the labels by which Knative collects roles."""
    # The Role for the Lease has a name of its own: it may be in a namespace that is served.
    names = {("Role", "headrace-controller"): "headrace-controller-system"}
    expected = {
        each["kind"] + (new := names.get((each["kind"], name), name)): _key(each, name=new)
        for each in _example("rbac.yaml", *ROLES)
        for name in [each["metadata"]["name"]]
    }
    assert expected == {
        each["kind"] + each["metadata"]["name"]: _key(each, name=each["metadata"]["name"])
        for each in _chart(WHOLE_CLUSTER, *ROLES)
    }


def test_the_roles_of_some_namespaces_are_those_of_the_example() -> None:
    """The Roles of the namespace `shop` for each one, and no ClusterRole."""
    example = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["rules"]
        for each in _example("rbac-namespaced.yaml", *ROLES)
    }
    expected = {
        ("knative-eventing", "headrace-controller-system"): example[
            "knative-eventing", "headrace-controller"
        ]
    }
    for namespace in ("shop", "orders"):
        for name in ("headrace-controller", "headrace-sources"):
            expected[namespace, name] = example["shop", name]
    assert expected == {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["rules"]
        for each in _chart(SOME_NAMESPACES, *ROLES)
    }


@pytest.mark.parametrize(
    ("value_set", "example"),
    [(WHOLE_CLUSTER, "rbac.yaml"), (SOME_NAMESPACES, "rbac-namespaced.yaml")],
)
def test_bindings_are_those_of_the_example(value_set: str, example: str) -> None:
    """The same ServiceAccounts get the same roles."""

    def grants(each: Object) -> set[tuple[str, str, str]]:
        role = each["roleRef"]["name"].removesuffix("-system")
        return {(subject["name"], each["roleRef"]["kind"], role) for subject in each["subjects"]}

    expected = [grants(each) for each in _example(example, *BINDINGS)]
    found = [grants(each) for each in _chart(value_set, *BINDINGS)]
    assert set().union(*expected) == set().union(*found)
    assert {NAMESPACE} == {
        subject["namespace"]
        for each in _chart(value_set, *BINDINGS)
        for subject in each["subjects"]
    }


@pytest.mark.parametrize("value_set", ["standalone", "standalone-own-secret", "legacy"])
def test_nothing_is_granted_where_nothing_is_needed(value_set: str) -> None:
    """In standalone mode, and where permissions are not the chart's affair."""
    assert [] == of_kind(value_set, *ROLES, *BINDINGS)


def test_the_role_of_the_lease_follows_the_name_of_the_release() -> None:
    """The controller may change its own Lease and no other one."""
    [role] = [
        each
        for each in of_kind("everything", "Role")
        if each["metadata"]["name"] == "headrace-events-controller-system"
    ]
    [rule] = [each for each in role["rules"] if "resourceNames" in each]
    assert ["headrace-events-controller"] == rule["resourceNames"]


@pytest.mark.parametrize("value_set", ["default", "namespaced"])
def test_the_test_may_write_its_own_kinds_only(value_set: str) -> None:
    """Brokers and Triggers, in one namespace, while it runs."""
    [role] = [each for each in of_kind(value_set, "Role") if component(each) == "test"]
    assert [
        {
            "apiGroups": ["eventing.knative.dev"],
            "resources": ["brokers", "triggers"],
            "verbs": ["get", "create", "patch", "delete"],
        }
    ] == role["rules"]
    assert {"default": NAMESPACE, "namespaced": "shop"}[value_set] == role["metadata"]["namespace"]
    hooks = [each for each in objects(value_set) if component(each) == "test"]
    assert {"test"} == {each["metadata"]["annotations"]["helm.sh/hook"] for each in hooks}
