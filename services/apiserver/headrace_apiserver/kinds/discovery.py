"""Discovery: groups, versions and resources, in the unaggregated and the aggregated form.

Clients learn short names, categories (`kubectl get sources`) and verbs only from here. Versions are
in the order of preference, the most stable first, whichever is stored. The documents are built once
per revision of the catalog and cached as bytes. (pure)
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from headrace.codec.objects import write_object
from headrace_apiserver.kinds.catalog import Catalog, version_order
from headrace_apiserver.kinds.served import ServedKind

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
PART_VERBS = ("get", "patch", "update")
AGGREGATED_VERSIONS = ("v2", "v2beta1")


@dataclass(frozen=True, slots=True)
class ReviewKind:
    """A kind that is never stored: the response to a POST is the object with a status."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = False


REVIEW_KINDS = (
    ReviewKind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews"),
    ReviewKind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    ReviewKind("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
)


def aggregated_type(version: str) -> str:
    """Media type of the aggregated form."""
    return f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"


def aggregated_version(accept: str) -> str | None:
    """The version of the aggregated form that a client prefers; None if it prefers the unaggregated
    form.
    """
    for each in accept.split(","):
        parts = {part.strip() for part in each.split(";")}
        if {"application/json", "g=apidiscovery.k8s.io", "as=APIGroupDiscoveryList"} <= parts:
            return next(
                (version for version in AGGREGATED_VERSIONS if f"v={version}" in parts), None
            )
        if parts & {"application/json", "*/*"}:
            return None
    return None


class Discovery:
    """The documents of `/api`, `/apis` and the paths below them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._revision = ""
        self._documents: dict[tuple[str, ...], bytes | None] = {}

    def core(self) -> bytes:
        """`/api`, unaggregated."""
        return (
            self._cached(
                ("core",),
                lambda: {
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [],
                },
            )
            or b""
        )

    def groups(self) -> bytes:
        """`/apis`, unaggregated."""
        return (
            self._cached(
                ("groups",),
                lambda: {
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": list(_groups(self._catalog)),
                },
            )
            or b""
        )

    def group(self, name: str) -> bytes | None:
        """`/apis/{group}`; None if there is no such group."""
        found = next((each for each in _groups(self._catalog) if each["name"] == name), None)
        return (
            None
            if found is None
            else self._cached(
                ("group", name), lambda: {"kind": "APIGroup", "apiVersion": "v1", **found}
            )
        )

    def resources(self, group: str, version: str) -> bytes | None:
        """`/apis/{group}/{version}`, or `/api/{version}` for an empty group; None if there is no
        such version.
        """
        return self._cached(
            ("resources", group, version), lambda: _resource_list(self._catalog, group, version)
        )

    def aggregated(self, *, core: bool, version: str) -> bytes:
        """`/api` (`core`) or `/apis` with all resources in one document. `version` is one of
        AGGREGATED_VERSIONS.
        """
        return (
            self._cached(
                ("aggregated", str(core), version),
                lambda: _aggregated(self._catalog, core, version),
            )
            or b""
        )

    def _cached(
        self, name: tuple[str, ...], build: Callable[[], dict[str, Any] | None]
    ) -> bytes | None:
        if self._revision != self._catalog.revision:
            self._revision = self._catalog.revision
            self._documents.clear()
        if name not in self._documents:
            document = build()
            if document is None:
                # Not cached: requests for names that do not exist must not use up memory.
                return None
            self._documents[name] = write_object(document)
        return self._documents[name]


def _versions(catalog: Catalog) -> Iterator[tuple[str, list[str]]]:
    """Groups in the order of the catalog, with their versions in the order of preference; the core
    group is empty.
    """
    pairs = {(served.kind.group, served.kind.version) for served in catalog} | {
        (each.group, each.version) for each in REVIEW_KINDS
    }
    ordered = sorted(pairs, key=lambda pair: (catalog.group_order(pair[0]), version_order(pair[1])))
    for group, members in groupby(ordered, key=lambda pair: pair[0]):
        yield group, [version for _, version in members]


def _groups(catalog: Catalog) -> Iterator[dict[str, Any]]:
    for group, versions in _versions(catalog):
        if group:
            versions_ = [
                {"groupVersion": f"{group}/{version}", "version": version} for version in versions
            ]
            yield {"name": group, "versions": versions_, "preferredVersion": versions_[0]}


def _resource_list(catalog: Catalog, group: str, version: str) -> dict[str, Any] | None:
    resources = [each for served in _members(catalog, group, version) for each in _plain(served)]
    for review in _review_resources(group, version):
        names = {
            "name": review.plural,
            "singularName": review.kind.lower(),
            "namespaced": review.namespaced,
            "kind": review.kind,
        }
        resources.append({**names, "verbs": ["create"]})
    if not resources:
        return None
    name = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": name,
        "resources": resources,
    }


def _plain(served: ServedKind) -> Iterator[dict[str, Any]]:
    kind = served.kind
    one: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
    }
    one["verbs"] = list(VERBS)
    if kind.short_names:
        one["shortNames"] = list(kind.short_names)
    if kind.categories:
        one["categories"] = list(kind.categories)
    yield one
    part: dict[str, Any] = {"singularName": "", "namespaced": kind.namespaced}
    if kind.has_status:
        yield {
            "name": f"{kind.plural}/status",
            **part,
            "kind": kind.kind,
            "verbs": list(PART_VERBS),
        }
    if served.scale:
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        yield {"name": f"{kind.plural}/scale", **part, **scale, "verbs": list(PART_VERBS)}


def _aggregated(catalog: Catalog, core: bool, version: str) -> dict[str, Any]:
    items = []
    for group, versions in _versions(catalog):
        if bool(group) == core:
            continue
        versions_ = [
            {
                "version": each,
                "resources": list(_whole(catalog, group, each)),
                "freshness": "Current",
            }
            for each in versions
        ]
        items.append(
            {
                "metadata": {"name": group, "creationTimestamp": None}
                if group
                else {"creationTimestamp": None},
                "versions": versions_,
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _whole(catalog: Catalog, group: str, version: str) -> Iterator[dict[str, Any]]:
    for served in _members(catalog, group, version):
        kind = served.kind
        one: dict[str, Any] = {
            "resource": kind.plural,
            "responseKind": {"group": group, "version": version, "kind": kind.kind},
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "singularResource": kind.singular,
            "verbs": list(VERBS),
        }
        if kind.short_names:
            one["shortNames"] = list(kind.short_names)
        if kind.categories:
            one["categories"] = list(kind.categories)
        parts = [("status", one["responseKind"])] if kind.has_status else []
        if served.scale:
            parts.append(("scale", {"group": "autoscaling", "version": "v1", "kind": "Scale"}))
        if parts:
            one["subresources"] = [
                {"subresource": name, "responseKind": shown, "verbs": list(PART_VERBS)}
                for name, shown in parts
            ]
        yield one
    for review in _review_resources(group, version):
        yield {
            "resource": review.plural,
            "responseKind": {"group": group, "version": version, "kind": review.kind},
            "scope": "Namespaced" if review.namespaced else "Cluster",
            "singularResource": review.kind.lower(),
            "verbs": ["create"],
        }


def _members(catalog: Catalog, group: str, version: str) -> Iterable[ServedKind]:
    return [
        served
        for served in catalog
        if served.kind.group == group and served.kind.version == version
    ]


def _review_resources(group: str, version: str) -> Iterable[ReviewKind]:
    return [each for each in REVIEW_KINDS if each.group == group and each.version == version]
