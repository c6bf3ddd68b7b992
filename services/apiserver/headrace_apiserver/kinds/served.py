"""One version of a kind as its definition (a CRD, or a core kind in the same form) describes it.
(pure)
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_apiserver.schemas.keywords import Schema
from headrace_apiserver.schemas.rule_tree import RuleNode, rule_tree

DEFINITION_GROUP = "apiextensions.k8s.io"
DEFINITION_KIND = "CustomResourceDefinition"

Document = Mapping[str, Any]
SpecConversion = Callable[[Document, str, str], Document]
"""From a spec, its version and the wanted version to the wanted spec. Pure, without loss."""


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `kubectl get`: its title, and the path of its value in the object."""

    name: str
    type: str
    """`string`, `integer`, `number`, `boolean`, or `date`, which is shown as an age."""
    format: str
    description: str
    priority: int
    """A column above 0 is only in wide tables."""
    json_path: str


AGE = PrinterColumn(
    "Age", "date", "", "Time since the object was created.", 0, ".metadata.creationTimestamp"
)
"""The only column of a definition without columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedKind:
    """One version of a kind: everything that admits, formats and describes its objects. Compared by
    identity: a changed definition results in new ones.
    """

    kind: ResourceKind
    storage: ResourceKind
    """The version that is stored; all versions of a kind share their objects."""
    schema: Schema
    """The `openAPIV3Schema` of the whole object, as it is in the definition."""
    columns: tuple[PrinterColumn, ...]
    custom: bool
    """Whether a CRD defines it; False for core kinds."""
    deprecation: str | None = None
    """Warning for clients that use this version."""
    scale: Mapping[str, str] | None = None
    """JSON paths of the scale subresource (`specReplicasPath`, `statusReplicasPath`,
    `labelSelectorPath`), if the kind has one.
    """
    selectable: tuple[str, ...] = ()
    """JSON paths that field selectors may name besides those of metadata."""
    convert_spec: SpecConversion | None = None
    """How a spec differs between versions; None: only `apiVersion` does."""

    @property
    def key(self) -> tuple[str, str]:
        """Group and plural: they identify the kind across its versions."""
        return self.kind.group, self.kind.plural

    @cached_property
    def rules(self) -> RuleNode | None:
        """The rules in CEL of the schema at their places in it; None if it has none."""
        return rule_tree(self.schema)

    def convert(self, document: Document) -> Document:
        """An object of this kind in this version; the object itself if it already is."""
        return self._converted(document, self.kind)

    def convert_to_storage(self, document: Document) -> Document:
        """An object of this kind in the version that is stored; the object itself if it already
        is.
        """
        return self._converted(document, self.storage)

    def _converted(self, document: Document, kind: ResourceKind) -> Document:
        before = str(document.get("apiVersion") or "")
        if before == kind.api_version:
            return document
        converted = {**document, "apiVersion": kind.api_version}
        spec = document.get("spec")
        if self.convert_spec is None or not isinstance(spec, Mapping):
            return converted
        version = before.rpartition("/")[2]
        return {**converted, "spec": self.convert_spec(spec, version, kind.version)}


def kinds_of(
    definition: Mapping[str, Any], *, custom: bool, convert_spec: SpecConversion | None = None
) -> tuple[ServedKind, ...]:
    """All versions of a definition without problems (`definition_problems`), also those that are
    not served.
    """
    spec = definition["spec"]
    storage = next(version for version in spec["versions"] if version["storage"])
    kinds = {version["name"]: _kind(spec, version, custom) for version in spec["versions"]}
    return tuple(
        _served(spec, version, kinds[version["name"]], kinds[storage["name"]], custom, convert_spec)
        for version in spec["versions"]
    )


def _kind(spec: Mapping[str, Any], version: Mapping[str, Any], custom: bool) -> ResourceKind:
    names = spec["names"]
    return ResourceKind(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        namespaced=spec["scope"] == "Namespaced",
        has_status="status" in (version.get("subresources") or {}),
        # Definitions are the only core kind with a generation.
        has_generation=custom or spec["group"] == DEFINITION_GROUP,
        served=bool(version["served"]),
    )


def _served(
    spec: Mapping[str, Any],
    version: Mapping[str, Any],
    kind: ResourceKind,
    storage: ResourceKind,
    custom: bool,
    convert_spec: SpecConversion | None,
) -> ServedKind:
    deprecation = None
    if version.get("deprecated"):
        deprecation = (
            version.get("deprecationWarning") or f"{kind.api_version} {kind.kind} is deprecated"
        )
    return ServedKind(
        kind=kind,
        storage=storage,
        schema=version["schema"]["openAPIV3Schema"],
        columns=tuple(_columns(version)) or (AGE,),
        custom=custom,
        deprecation=deprecation,
        scale=(version.get("subresources") or {}).get("scale"),
        selectable=tuple(field["jsonPath"] for field in version.get("selectableFields") or ()),
        convert_spec=convert_spec,
    )


def _columns(version: Mapping[str, Any]) -> Iterator[PrinterColumn]:
    for column in version.get("additionalPrinterColumns") or ():
        yield PrinterColumn(
            column["name"],
            column["type"],
            column.get("format", ""),
            column.get("description", ""),
            column.get("priority", 0),
            column["jsonPath"],
        )
