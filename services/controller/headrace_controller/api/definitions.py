"""CustomResourceDefinitions that users apply: what may be wrong with one, and the status of one that is served.

A definition may say only what this API can keep: structural schemas, rules in CEL that compile, no conversion webhook. What is refused
here is refused with the field and the reason, because a kind that is half served loses its users' data. (pure)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headrace_controller.api import causes as told
from headrace_controller.api.keywords import INT_OR_STRING, PRESERVE, RESOURCE_FIELDS, RULES, Schema
from headrace_controller.api.pruning import pruned
from headrace_controller.api.schema import validate
from headrace_controller.api.statuses import Cause

NODES_MAX = 10_000
"""Schemas within the schema of one version; Knative's largest kinds have about 400."""
DEPTH_MAX = 60
"""Schemas within each other; an object may nest 64 levels."""
VERSIONS_MAX = 20
_TYPES = frozenset(("object", "array", "string", "integer", "number", "boolean"))
_FORBIDDEN = (
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
)
_JUNCTIONS = ("allOf", "anyOf", "oneOf")

RuleCheck = Callable[[str], str | None]
"""What is wrong with the text of a rule, or of a pattern; None when it compiles."""


def definition_problems(definition: Mapping[str, Any], *, rule: RuleCheck, pattern: RuleCheck) -> list[Cause]:
    """What is wrong with a CRD whose shape is right; the first hundred of it."""
    spec = definition["spec"]
    found = _name_problems(definition["metadata"].get("name", ""), spec)
    versions = spec["versions"]
    if len(versions) > VERSIONS_MAX:
        return [told.too_many("spec.versions", len(versions), VERSIONS_MAX)]
    if sum(bool(version["storage"]) for version in versions) != 1:
        names = [version["name"] for version in versions]
        found.append(told.invalid("spec.versions", names, "must have exactly one version marked as storage version"))
    if len({version["name"] for version in versions}) < len(versions):
        found.append(told.invalid("spec.versions", "array", "must contain unique version names"))
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        found.append(told.not_supported("spec.conversion.strategy", spec["conversion"]["strategy"], ["None"]))
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}].schema.openAPIV3Schema"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(schema, Mapping):
            found.append(told.required(path, "schemas are required"))
            continue
        found += _Inspection(rule, pattern).root(schema, path)
    return found[:100]


def status_of(definition: Mapping[str, Any], conflicts: Mapping[str, str]) -> dict[str, Any]:
    """The status of a definition; `conflicts` says which of its names (`Plural`, `Kind`, ...) others have, so that it is not served."""
    spec, old = definition["spec"], definition.get("status") or {}
    names = {"singular": spec["names"]["kind"].lower(), "listKind": f"{spec['names']['kind']}List", **spec["names"]}
    storage = next((version["name"] for version in spec["versions"] if version["storage"]), "")
    stored = list(dict.fromkeys([*(old.get("storedVersions") or ()), storage]))
    if conflicts:
        part, message = next(iter(conflicts.items()))
        conditions = [
            _condition("NamesAccepted", "False", f"{part}Conflict", message),
            _condition("Established", "False", "NotAccepted", "not all names are accepted"),
        ]
        return {"acceptedNames": {"kind": "", "plural": ""}, "conditions": conditions, "storedVersions": stored}
    conditions = [
        _condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
        _condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    return {"acceptedNames": names, "conditions": conditions, "storedVersions": stored}


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    """A condition without its time, which the writer knows."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _name_problems(name: str, spec: Mapping[str, Any]) -> list[Cause]:
    found = []
    if name != f"{spec['names']['plural']}.{spec['group']}":
        found.append(told.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if "." not in spec["group"]:
        found.append(told.invalid("spec.group", spec["group"], "should be a domain with at least one dot"))
    return found


class _Inspection:
    """One walk through a schema: whether it is structural, and what its rules and patterns are worth."""

    def __init__(self, rule: RuleCheck, pattern: RuleCheck) -> None:
        self._rule = rule
        self._pattern = pattern
        self._left = NODES_MAX

    def root(self, schema: Schema, path: str) -> list[Cause]:
        """The problems of a version's schema."""
        if schema.get("type") != "object":
            return [told.invalid(f"{path}.type", schema.get("type", ""), "must be object at the root")]
        for name in RESOURCE_FIELDS & (schema.get("properties") or {}).keys():
            wanted = "object" if name == "metadata" else "string"
            if schema["properties"][name].get("type") != wanted:
                return [told.invalid(f"{path}.properties[{name}].type", schema["properties"][name].get("type"), f"must be {wanted}")]
        found = list(self._node(schema, path, 1, structural=True))
        if self._left <= 0:
            found.append(told.invalid(path, "object", f"has more than {NODES_MAX} schemas in it"))
        return found

    def _node(self, schema: Any, path: str, depth: int, *, structural: bool) -> Iterator[Cause]:
        self._left -= 1
        if self._left <= 0:
            return
        if not isinstance(schema, Mapping):
            yield told.invalid(path, schema, "must be a schema")
            return
        if depth > DEPTH_MAX:
            yield told.invalid(path, "object", f"nested deeper than {DEPTH_MAX} schemas")
            return
        for name in _FORBIDDEN:
            if name in schema:
                yield told.forbidden(f"{path}.{name}", f"{name} is not supported")
        yield from self._type_problems(schema, path, structural)
        yield from self._text_problems(schema, path)
        if "default" in schema:
            yield from self._default_problems(schema, f"{path}.default", structural)
        for name, each in (schema.get("properties") or {}).items():
            yield from self._node(each, f"{path}.properties[{name}]", depth + 1, structural=structural)
        extra, items = schema.get("additionalProperties"), schema.get("items")
        if isinstance(extra, Mapping):
            yield from self._node(extra, f"{path}.additionalProperties", depth + 1, structural=structural)
        if isinstance(items, Mapping):
            yield from self._node(items, f"{path}.items", depth + 1, structural=structural)
        elif isinstance(items, list):
            yield told.forbidden(f"{path}.items", "items must be a schema object and not an array")
        yield from self._junction_problems(schema, path, depth)

    def _junction_problems(self, schema: Schema, path: str, depth: int) -> Iterator[Cause]:
        for junction in _JUNCTIONS:
            for index, each in enumerate(schema.get(junction) or ()):
                yield from self._node(each, f"{path}.{junction}[{index}]", depth + 1, structural=False)
        if "not" in schema:
            yield from self._node(schema["not"], f"{path}.not", depth + 1, structural=False)

    def _type_problems(self, schema: Schema, path: str, structural: bool) -> Iterator[Cause]:
        kind = schema.get("type")
        if kind is not None and kind not in _TYPES:
            yield told.not_supported(f"{path}.type", kind, sorted(_TYPES))
        if not structural:
            return
        if not kind and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
            yield told.required(f"{path}.type", "must not be empty for specified object fields")
        if schema.get("properties") and schema.get("additionalProperties"):
            yield told.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
        if kind == "array" and not schema.get("items"):
            yield told.required(f"{path}.items", "must be specified")
        if schema.get("uniqueItems"):
            yield told.forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")

    def _default_problems(self, schema: Schema, path: str, structural: bool) -> Iterator[Cause]:
        default = schema["default"]
        if not structural:
            yield told.forbidden(path, "must be undefined to be structural")
            return
        # The schema judges the value that it gives itself: a wrong one would make every object wrong that does not say otherwise.
        for cause in validate(default, schema, matches=lambda pattern, text: True)[:10]:
            yield cause._replace(field=f"{path}.{cause.field}" if cause.field else path)
        if isinstance(default, dict) and pruned(default, schema, whole=False)[1]:
            yield told.invalid(path, default, "must be pruned: it has fields that the schema does not know")

    def _text_problems(self, schema: Schema, path: str) -> Iterator[Cause]:
        if schema.get("pattern") and (wrong := self._pattern(schema["pattern"])):
            yield told.invalid(f"{path}.pattern", schema["pattern"], f"must be a valid regular expression, but isn't: {wrong}")
        rules: Sequence[Any] = schema.get(RULES) or ()
        for index, each in enumerate(rules):
            for name in ("rule", "messageExpression"):
                text = each.get(name) if isinstance(each, Mapping) else None
                if name == "rule" and not (isinstance(text, str) and text.strip()):
                    yield told.required(f"{path}.{RULES}[{index}].rule", "rule is not specified")
                elif text and (wrong := self._rule(text)):
                    yield told.invalid(f"{path}.{RULES}[{index}].{name}", text, f"compilation failed: {wrong}")
