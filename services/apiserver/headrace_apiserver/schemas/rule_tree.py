"""The parts of a schema that contain CEL rules, and the conversions that their values need.

Built once per version of a kind, so that an object without rules costs nothing, and one with rules
only the walk to them. (pure)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace_apiserver.schemas.keywords import LIST_MAP_KEYS, LIST_TYPE, RULES, Schema


@dataclass(frozen=True, slots=True)
class ValidationRule:
    """One entry of `x-kubernetes-validations`."""

    text: str
    message: str = ""
    message_expression: str = ""
    reason: str = ""
    field_path: str = ""
    optional_old: bool = False
    """Whether `oldSelf` is an optional value, so that the rule also runs where there is no old
    value.
    """


@dataclass(frozen=True, slots=True)
class RuleNode:
    """A part of the schema that has rules, itself or further down."""

    type_name: str
    """The schema's type, which the API server shows in place of an invalid value."""
    rules: tuple[ValidationRule, ...]
    schema: Schema
    typed: bool
    """Whether its values must be converted (bytes, numbers) before a rule sees them."""
    properties: Mapping[str, "RuleNode"] = field(default_factory=dict)
    items: "RuleNode | None" = None
    extra: "RuleNode | None" = None
    """The node of the values of a map."""
    alternatives: tuple["RuleNode", ...] = ()
    """The nodes of `allOf`, which apply to the same value."""
    map_keys: tuple[str, ...] = ()
    """The key fields of a map list; empty for other lists, whose entries have no identity and
    therefore no old value.
    """


def rule_tree(schema: Schema) -> RuleNode | None:
    """The rules of a schema; None if it has none."""
    rules = tuple(_rule(each) for each in schema.get(RULES) or ())
    properties = {
        name: node
        for name, each in (schema.get("properties") or {}).items()
        if (node := rule_tree(each))
    }
    items, extra = schema.get("items"), schema.get("additionalProperties")
    below = rule_tree(items) if isinstance(items, Mapping) else None
    values = rule_tree(extra) if isinstance(extra, Mapping) else None
    alternatives = tuple(node for each in schema.get("allOf") or () if (node := rule_tree(each)))
    if not (rules or properties or below or values or alternatives):
        return None
    keys = tuple(schema.get(LIST_MAP_KEYS) or ()) if schema.get(LIST_TYPE) == "map" else ()
    kind = str(schema.get("type") or "")
    return RuleNode(
        kind,
        rules,
        schema,
        bool(rules) and is_typed(schema),
        properties,
        below,
        values,
        alternatives,
        keys,
    )


def is_typed(schema: Schema) -> bool:
    """Whether some value of this schema has a type in CEL that JSON does not have."""
    if schema.get("format") == "byte" and schema.get("type") == "string":
        return True
    if schema.get("type") == "number":
        return True
    items, extra = schema.get("items"), schema.get("additionalProperties")
    return (
        any(is_typed(each) for each in (schema.get("properties") or {}).values())
        or (isinstance(items, Mapping) and is_typed(items))
        or (isinstance(extra, Mapping) and is_typed(extra))
    )


def _rule(stated: Mapping[str, Any]) -> ValidationRule:
    return ValidationRule(
        text=stated["rule"],
        message=stated.get("message", "").strip(),
        message_expression=stated.get("messageExpression", "").strip(),
        reason=stated.get("reason", ""),
        field_path=stated.get("fieldPath", ""),
        optional_old=bool(stated.get("optionalOldSelf")),
    )
