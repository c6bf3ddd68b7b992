"""The roles in `examples/kubernetes`: the controller may read every kind that it follows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CRDS = sorted((ROOT / "charts" / "headrace" / "files" / "crds").glob("*.yaml"))
ROLES = [ROOT / "examples" / "kubernetes" / name for name in ("rbac.yaml", "rbac-namespaced.yaml")]
READ = {"get", "list", "watch"}


def rules(path: Path, namespace: str) -> Iterator[Mapping[str, Any]]:
    """Every rule of the ClusterRoles, and of the Roles of a namespace."""
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "ClusterRole" or (
            document["kind"] == "Role" and document["metadata"]["namespace"] == namespace
        ):
            yield from document["rules"]


def verbs(path: Path, group: str, resource: str, namespace: str = "shop") -> set[str]:
    """The allowed verbs of a resource."""
    found = [
        each
        for each in rules(path, namespace)
        if group in each["apiGroups"] and resource in each["resources"]
    ]
    return {verb for each in found for verb in each["verbs"]}


@pytest.mark.parametrize("path", ROLES, ids=[each.stem for each in ROLES])
@pytest.mark.parametrize("crd", CRDS, ids=[each.stem for each in CRDS])
@pytest.mark.parametrize("namespace", ["shop", "knative-eventing"])
def test_every_kind_can_be_read(path: Path, crd: Path, namespace: str) -> None:
    """Sinks, dependencies and references of EventTypes may be of any kind, in both namespaces."""
    spec = yaml.safe_load(crd.read_text())["spec"]
    if spec["scope"] == "Cluster" and path.stem == "rbac-namespaced":
        pytest.skip("a controller of some namespaces leaves alone what is in none")
    assert verbs(path, spec["group"], spec["names"]["plural"], namespace) >= READ


@pytest.mark.parametrize("path", ROLES, ids=[each.stem for each in ROLES])
@pytest.mark.parametrize(
    ("group", "resource", "needed"),
    [
        ("eventing.knative.dev", "brokers", ["update"]),
        ("eventing.knative.dev", "triggers", ["update"]),
        ("eventing.knative.dev", "eventtypes", ["create", "patch", "delete"]),
        ("eventing.knative.dev", "brokers/status", ["patch"]),
        ("eventing.knative.dev", "triggers/status", ["patch"]),
        ("eventing.knative.dev", "eventtypes/status", ["patch"]),
        ("sources.knative.dev", "sinkbindings", ["update", "create", "patch", "delete"]),
        ("apps", "deployments", ["get", "list", "watch", "create", "patch", "update"]),
        ("apps", "statefulsets", ["get", "list", "watch", "update"]),
        ("apps", "daemonsets", ["get", "list", "watch", "update"]),
        ("batch", "jobs", ["get", "list", "watch"]),
        ("", "configmaps", ["get", "list", "watch"]),
        ("", "events", ["create", "update"]),
    ],
)
def test_the_controller_may_write_what_it_writes(
    path: Path, group: str, resource: str, needed: Sequence[str]
) -> None:
    """The verbs of its steps."""
    assert verbs(path, group, resource) >= set(needed)


def test_the_labels_of_namespaces_can_be_read() -> None:
    """By a controller of all namespaces: SinkBindings follow them."""
    assert verbs(ROLES[0], "", "namespaces") == READ


@pytest.mark.clause("O6")
def test_a_role_for_observers_may_see_every_kind_of_source() -> None:
    """With the label of the duck type: aggregated roles of Knative find it."""
    documents = list(yaml.safe_load_all(ROLES[0].read_text()))
    [role] = [
        each
        for each in documents
        if each["metadata"].get("labels", {}).get("duck.knative.dev/source") == "true"
    ]
    seen = {
        (group, resource)
        for each in role["rules"]
        for group in each["apiGroups"]
        for resource in each["resources"]
        if set(each["verbs"]) == READ
    }
    specs = [yaml.safe_load(crd.read_text()) for crd in CRDS]
    sources = {
        (each["spec"]["group"], each["spec"]["names"]["plural"])
        for each in specs
        if each["metadata"].get("labels", {}).get("duck.knative.dev/source") == "true"
    }
    assert sources
    assert seen >= sources
