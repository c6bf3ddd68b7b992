"""Discovery: the documents, and what the real kubectl reads from them."""

import json
from typing import Any

import pytest

from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.discovery import AGGREGATED_VERSIONS, Discovery, aggregated_version
from headrace_controller.builtin_crds import load_catalog
from tests.unit.apiserver.catalog_server import CatalogServer, kubectl_run, needs_kubectl
from tests.unit.apiserver.kinds.test_catalog import gadget

CATALOG = load_catalog()
KUBECTL = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


def _read(text: bytes | None) -> Any:
    assert text is not None
    return json.loads(text)


@pytest.mark.parametrize(
    ("version", "accept"),
    [
        ("v2", KUBECTL),
        (
            "v2beta1",
            (
                "application/json; g=apidiscovery.k8s.io; v=v2beta1; as=APIGroupDiscoveryList,"
                " application/json"
            ),
        ),
        (None, f"application/json,{KUBECTL}"),
        (None, "application/json"),
        (None, "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList"),
        (None, "*/*"),
        (None, ""),
    ],
)
def test_negotiation_of_the_aggregated_form(version: str | None, accept: str) -> None:
    """The client gets the first form in its Accept header that is supported."""
    assert version == aggregated_version(accept)


def test_groups_prefer_their_most_stable_version() -> None:
    """A client that names no version gets the first one: v1 of KafkaSources, although v1beta1 is
    stored.
    """
    groups = {group["name"]: group for group in _read(Discovery(CATALOG).groups())["groups"]}
    assert ["v1", "v1beta3", "v1beta2", "v1beta1", "v1alpha1"] == [
        each["version"] for each in groups["eventing.knative.dev"]["versions"]
    ]
    assert (
        "sources.knative.dev/v1"
        == groups["sources.knative.dev"]["preferredVersion"]["groupVersion"]
    )
    assert "" not in groups
    assert (
        groups["flows.knative.dev"].items()
        <= _read(Discovery(CATALOG).group("flows.knative.dev")).items()
    )


def test_resources_have_names_verbs_and_subresources() -> None:
    """The entry of a kind has what kubectl needs; its status has an entry of its own."""
    listed = {
        each["name"]: each
        for each in _read(Discovery(CATALOG).resources("messaging.knative.dev", "v1"))["resources"]
    }
    channel = listed["channels"]
    assert ("channel", "Channel", True, ["ch"]) == (
        channel["singularName"],
        channel["kind"],
        channel["namespaced"],
        channel["shortNames"],
    )
    assert ["all", "knative", "messaging", "channel"] == channel["categories"]
    assert {
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    } == set(channel["verbs"])
    assert ["get", "patch", "update"] == listed["channels/status"]["verbs"]
    core = {
        each["name"]: each for each in _read(Discovery(CATALOG).resources("", "v1"))["resources"]
    }
    assert (False, True) == (core["namespaces"]["namespaced"], core["secrets"]["namespaced"])
    assert "configmaps/status" not in core


def test_reviews_can_only_be_created() -> None:
    """They have no other verb."""
    resources = _read(Discovery(CATALOG).resources("authorization.k8s.io", "v1"))["resources"]
    assert {"selfsubjectaccessreviews", "selfsubjectrulesreviews"} == {
        each["name"] for each in resources
    }
    assert all(["create"] == each["verbs"] for each in resources)


@pytest.mark.parametrize("version", AGGREGATED_VERSIONS)
def test_both_forms_have_the_same_content(version: str) -> None:
    """The same resources and subresources."""
    discovery = Discovery(CATALOG)
    for core in (True, False):
        document = _read(discovery.aggregated(core=core, version=version))
        assert f"apidiscovery.k8s.io/{version}" == document["apiVersion"]
        for item in document["items"]:
            group = item["metadata"].get("name", "")
            assert core == (not group)
            for listed in item["versions"]:
                plain = {
                    each["name"]
                    for each in _read(discovery.resources(group, listed["version"]))["resources"]
                }
                names = {each["resource"] for each in listed["resources"]}
                parts = {
                    f"{each['resource']}/{part['subresource']}"
                    for each in listed["resources"]
                    for part in each.get("subresources", ())
                }
                assert plain == names | parts


def test_the_scale_subresource_is_listed() -> None:
    """Clients of discovery can scale such a kind."""
    catalog = Catalog([])
    definition = gadget()
    definition["spec"]["versions"][0]["subresources"] = {
        "scale": {"specReplicasPath": ".spec.a", "statusReplicasPath": ".status.a"}
    }
    catalog.put(definition)
    listed = {
        each["name"]: each
        for each in _read(Discovery(catalog).resources("shop.dev", "v1"))["resources"]
    }
    assert ("autoscaling", "Scale") == (
        listed["gadgets/scale"]["group"],
        listed["gadgets/scale"]["kind"],
    )


def test_unknown_groups_and_versions() -> None:
    """They have no document, and requests for many of them use no memory."""
    discovery = Discovery(CATALOG)
    assert discovery.group("nothing.dev") is None
    assert discovery.resources("eventing.knative.dev", "v9") is None
    assert discovery.group("") is None


def test_documents_follow_the_catalog() -> None:
    """A user's definition is listed at once, and removed at once."""
    catalog = load_catalog()
    discovery = Discovery(catalog)
    before = discovery.groups()
    catalog.put(gadget())
    assert discovery.resources("shop.dev", "v1") is not None
    assert b"shop.dev" in discovery.groups()
    catalog.remove("gadgets.shop.dev")
    assert before == discovery.groups()


@needs_kubectl
@pytest.mark.parametrize("aggregated", [True, False])
def test_kubectl_lists_the_resources(tmp_path: Any, aggregated: bool) -> None:
    """`kubectl api-resources` and `api-versions` show every kind, with both forms."""
    with CatalogServer(CATALOG, aggregated=aggregated) as server:
        wide = kubectl_run(server, tmp_path, "api-resources", "-o", "wide", "--no-headers")
        versions = kubectl_run(server, tmp_path, "api-versions").split()
        sources = kubectl_run(
            server, tmp_path, "api-resources", "--categories=sources", "-o", "name"
        ).split()
    rows = {line.split()[0]: line.split() for line in wide.splitlines()}
    assert {served.kind.plural for served in CATALOG} <= rows.keys()
    assert ["channels", "ch", "messaging.knative.dev/v1", "true", "Channel"] == rows["channels"][:5]
    assert "all,knative,messaging,channel" == rows["channels"][-1]
    assert "eventing.knative.dev/v1beta3" == rows["eventtypes"][1]
    assert {"v1", "eventing.knative.dev/v1beta1", "authorization.k8s.io/v1"} <= set(versions)
    assert {"pingsources.sources.knative.dev", "kafkasources.sources.knative.dev"} <= set(sources)
    assert "brokers.eventing.knative.dev" not in sources
