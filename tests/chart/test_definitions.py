"""The CRDs and admission policies of the chart are the project's files, complete and unchanged."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from headrace_controller.reconcile.kinds import RECONCILERS, reconcilers_in_cluster
from tests.chart.rendering import CHART, ROOT, VALUE_SETS, Object, of_kind, values_of

CRDS = CHART / "files" / "crds"
ADMISSION = CHART / "files" / "admission.yaml"
KEEP = {"helm.sh/resource-policy": "keep"}
POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def _files(*, legacy: bool) -> Iterator[dict[str, Any]]:
    for path in sorted(CRDS.glob("*.yaml")):
        old = path.name.startswith("legacy") or path.stem == "clusterchannelprovisioner"
        if legacy or not old:
            yield yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def _own(each: Object) -> dict[str, Any]:
    """A definition or policy without what the chart adds."""
    metadata = dict(each["metadata"])
    labels = {
        key: text
        for key, text in metadata.pop("labels", {}).items()
        if not key.startswith(("app.kubernetes.io/", "helm.sh/"))
    }
    annotations = {
        key: text
        for key, text in metadata.pop("annotations", {}).items()
        if not key.startswith("helm.sh/")
    }
    return {**each, "metadata": {**metadata, "labels": labels, "annotations": annotations}}


@pytest.mark.parametrize(("value_set", "legacy"), [("default", False), ("legacy", True)])
def test_each_file_is_rendered_unchanged(value_set: str, *, legacy: bool) -> None:
    """Numbers and texts too: a template parses and writes them again."""
    found = of_kind(value_set, "CustomResourceDefinition")
    assert sorted((_own(each) for each in _files(legacy=legacy)), key=_name) == sorted(
        (_own(each) for each in found), key=_name
    )


def _name(each: Object) -> str:
    return str(each["metadata"]["name"])


@pytest.mark.parametrize(("value_set", "legacy"), [("default", False), ("legacy", True)])
def test_each_kind_that_the_controller_watches_has_a_definition(
    value_set: str, *, legacy: bool
) -> None:
    """A controller does not start without one; with `crds.legacy=false` it needs fewer."""
    reconcilers = reconcilers_in_cluster(
        RECONCILERS, channels=True, sources=True, legacy=legacy, namespaced=False
    )
    needed = {(each.group, each.plural) for each in reconcilers.watched_kinds if "." in each.group}
    found = [each["spec"] for each in of_kind(value_set, "CustomResourceDefinition")]
    assert needed - {(each["group"], each["names"]["plural"]) for each in found} == set()


def test_definitions_are_kept_when_the_release_is_removed() -> None:
    """All of them, or with `crds.keep=false` none; their own annotations stay."""
    kept = of_kind("default", "CustomResourceDefinition")
    assert all(KEEP.items() <= each["metadata"]["annotations"].items() for each in kept)
    removed = of_kind("legacy", "CustomResourceDefinition")
    assert not any(
        KEEP.items() <= each["metadata"].get("annotations", {}).items() for each in removed
    )


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_definitions_and_policies_are_for_clusters(value_set: str) -> None:
    """And each kind can be switched off by itself."""
    values = values_of(value_set)
    cluster = values.get("mode", "cluster") == "cluster"
    for kinds, key in [(("CustomResourceDefinition",), "crds"), (POLICIES, "admissionPolicies")]:
        wanted = cluster and values.get(key, {}).get("install", True)
        assert wanted == bool(of_kind(value_set, *kinds))


def test_the_policies_are_those_of_the_example() -> None:
    """A chart cannot read files outside of its folder, so it has a copy."""
    example = ROOT / "examples" / "kubernetes" / "admission.yaml"
    assert example.read_text(encoding="utf-8") == ADMISSION.read_text(encoding="utf-8")
    expected = [_own(each) for each in yaml.safe_load_all(ADMISSION.read_text(encoding="utf-8"))]
    found = [_own(each) for each in of_kind("default", *POLICIES)]
    assert sorted(expected, key=repr) == sorted(found, key=repr)
