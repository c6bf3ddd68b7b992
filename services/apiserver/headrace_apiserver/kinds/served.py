"""What a definition (a CRD, or a core kind in the same form) says about one version of a kind,
ready to be served. (pure)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_apiserver.schemas.keywords import Schema
from headrace_apiserver.schemas.rule_tree import RuleNode, rule_tree

DEFINITION_GROUP = "apiextensions.k8s.io"
DEFINITION_KIND = "CustomResourceDefinition"


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `kubectl get`: its title, and where in the object its value stands."""

    name: str
    type: str
    """`string`, `integer`, `number`, `boolean`, or `date`, which is shown as an age."""
    format: str
    description: str
    priority: int
    """Above 0 only wide tables show it."""
    json_path: str


AGE = PrinterColumn(
    "Age", "date", "", "Time since the object was created.", 0, ".metadata.creationTimestamp"
)
"""The column of a definition that names none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedKind:
    """One version of a kind: what admits, shows and describes its objects. Identity is equality: a
    changed definition makes others.
    """

    kind: ResourceKind
    storage: ResourceKind
    """The version that is stored; all versions of a kind share their objects."""
    schema: Schema
    """The raw `openAPIV3Schema`; the whole object's."""
    columns: tuple[PrinterColumn, ...]
    custom: bool
    """Defined by a CRD, not one of the core kinds."""
    deprecation: str | None = None
    """Warning for whoever uses this version."""
    scale: Mapping[str, str] | None = None
    """JSON paths of the scale subresource (`specReplicasPath`, `statusReplicasPath`,
    `labelSelectorPath`), where the kind has it.
    """
    selectable: tuple[str, ...] = ()
    """JSON paths that field selectors may name, besides metadata's."""

    @property
    def key(self) -> tuple[str, str]:
        """Group and plural: what names the kind across its versions."""
        return self.kind.group, self.kind.plural

    @cached_property
    def rules(self) -> RuleNode | None:
        """The schema's rules in CEL, where they stand; None when it has none."""
        return rule_tree(self.schema)


def kinds_of(definition: Mapping[str, Any], *, custom: bool) -> tuple[ServedKind, ...]:
    """All served versions, the stored one also when it is not served. The definition must be in
    order (`definition_problems`).
    """
    spec = definition["spec"]
    storage = next(version for version in spec["versions"] if version["storage"])
    kinds = {version["name"]: _kind(spec, version, custom) for version in spec["versions"]}
    return tuple(
        _served(spec, version, kinds[version["name"]], kinds[storage["name"]], custom)
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
        # Of the core kinds only definitions count their changes.
        has_generation=custom or spec["group"] == DEFINITION_GROUP,
        served=bool(version["served"]),
    )


def _served(
    spec: Mapping[str, Any],
    version: Mapping[str, Any],
    kind: ResourceKind,
    storage: ResourceKind,
    custom: bool,
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
