"""OpenAPI: the documents, and what the real kubectl reads from them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headrace_apiserver.kinds.openapi import OpenApi
from headrace_controller.builtin_crds import load_catalog
from tests.unit.apiserver.catalog_server import CatalogServer, kubectl_run, needs_kubectl
from tests.unit.apiserver.kinds.test_catalog import gadget

CATALOG = load_catalog()
OPENAPI = OpenApi(CATALOG)
VERSIONS = sorted({(served.kind.group, served.kind.version) for served in CATALOG})


def _document(group: str, version: str) -> Any:
    found = OPENAPI.document(group, version)
    assert found is not None
    return json.loads(found)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_the_index_lists_every_document() -> None:
    """The address of a document changes with the catalog."""
    paths = json.loads(OPENAPI.index())["paths"]
    assert {
        f"apis/{group}/{version}" if group else f"api/{version}" for group, version in VERSIONS
    } == paths.keys()
    assert (
        f"/openapi/v3/api/v1?hash={OPENAPI.digest('', 'v1')}"
        == paths["api/v1"]["serverRelativeURL"]
    )


@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_patch_of_every_kind_has_field_validation(group: str, version: str) -> None:
    """kubectl checks this before it lets the server validate fields; without it a plain apply
    fails.
    """
    document = _document(group, version)
    kinds = {
        served.kind.kind
        for served in CATALOG
        if (served.kind.group, served.kind.version) == (group, version)
    }
    found = {
        path["patch"]["x-kubernetes-group-version-kind"]["kind"]
        for path in document["paths"].values()
        if "patch" in path
        and any(parameter["name"] == "fieldValidation" for parameter in path["patch"]["parameters"])
    }
    assert kinds == found


@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_references_can_be_resolved(group: str, version: str) -> None:
    """Within the document: generators read it alone."""
    document = _document(group, version)
    schemas = document["components"]["schemas"]
    assert {
        reference.removeprefix("#/components/schemas/") for reference in _references(document)
    } <= schemas.keys()
    for served in CATALOG:
        if (served.kind.group, served.kind.version) == (group, version):
            gvk = {"group": group, "version": version, "kind": served.kind.kind}
            assert 1 == sum(
                gvk in schema.get("x-kubernetes-group-version-kind", ())
                for schema in schemas.values()
            )


def test_documents_follow_the_catalog() -> None:
    """A user's definition is described at once; the hash makes clients read the document again."""
    catalog = load_catalog()
    openapi = OpenApi(catalog)
    before = openapi.index()
    assert openapi.document("shop.dev", "v1") is None
    catalog.put(gadget())
    assert openapi.document("shop.dev", "v1") is not None
    assert before != openapi.index()


def test_documents_are_cached() -> None:
    """The same bytes until the catalog changes."""
    assert OPENAPI.document("eventing.knative.dev", "v1") is OPENAPI.document(
        "eventing.knative.dev", "v1"
    )


@needs_kubectl
@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ("KIND:       Broker", ("broker",)),
        ("deadLetterSink", ("broker.spec.delivery",)),
        ("FIELD: retry <integer>", ("trigger.spec.delivery.retry",)),
        ("VERSION:    v1beta2", ("eventtype", "--api-version=eventing.knative.dev/v1beta2")),
        ("generateName\t<string>", ("broker.metadata",)),
        ("kind\t<string> -required-", ("trigger", "--recursive")),
        ("GROUP:      messaging.knative.dev", ("ch",)),
        ("data\t<map[string]string>", ("configmap",)),
        ("FIELD: port <integer>", ("svc.spec.ports.port",)),
        ("additionalPrinterColumns", ("crd.spec.versions",)),
    ],
)
def test_kubectl_explains(tmp_path: Any, expected: str, arguments: tuple[str, ...]) -> None:
    """`kubectl explain` of every kind, by short name and version too, and of single fields."""
    with CatalogServer(CATALOG) as server:
        output = kubectl_run(server, tmp_path, "explain", *arguments)
    assert expected in output, output
