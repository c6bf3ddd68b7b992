"""OpenAPI: the documents by themselves, and what the real kubectl makes of them."""

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


def test_index_leads_to_every_document() -> None:
    """Every group version has a document, whose address changes with the catalog."""
    paths = json.loads(OPENAPI.index())["paths"]
    assert {
        f"apis/{group}/{version}" if group else f"api/{version}" for group, version in VERSIONS
    } == paths.keys()
    assert (
        f"/openapi/v3/api/v1?hash={OPENAPI.digest('', 'v1')}"
        == paths["api/v1"]["serverRelativeURL"]
    )


@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_patch_of_every_kind_takes_field_validation(group: str, version: str) -> None:
    """kubectl looks for this before it trusts the server to check fields; without it, a plain apply
    stops.
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
def test_references_lead_somewhere(group: str, version: str) -> None:
    """A document is whole: generators read it alone."""
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
    """A definition that a user applies is described at once; the hash tells clients to read
    again.
    """
    catalog = load_catalog()
    openapi = OpenApi(catalog)
    before = openapi.index()
    assert openapi.document("shop.dev", "v1") is None
    catalog.put(gadget())
    assert openapi.document("shop.dev", "v1") is not None
    assert before != openapi.index()


def test_documents_are_made_once() -> None:
    """The same bytes are answered until the catalog changes."""
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
    """`kubectl explain` reads every kind, by short names and versions too, and down to single
    fields.
    """
    with CatalogServer(CATALOG) as server:
        told = kubectl_run(server, tmp_path, "explain", *arguments)
    assert expected in told, told
