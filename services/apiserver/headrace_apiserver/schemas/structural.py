"""Validates the schemas of CRDs: whether they are well-formed structural schemas, and whether their
rules, patterns and defaults are valid.

All other code trusts a schema that has passed here and does not check the types of keywords again.
So the first pass checks the form of every schema in the tree, with limits on their number and
nesting, and only a well-formed tree is checked further. (pure)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.keywords import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_MAP_KEYS,
    LIST_TYPE,
    MAP_TYPE,
    PRESERVE,
    RESOURCE_FIELDS,
    RULES,
    Schema,
)
from headrace_apiserver.schemas.patterns import PATTERN_MAX, pattern_weight
from headrace_apiserver.schemas.pruning import pruned
from headrace_apiserver.schemas.schema import validate
from headrace_apiserver.schemas.status_causes import child
from headrace_apiserver.statuses import StatusCause

NODES_MAX = 10_000
"""Schemas nested in the schema of one version; Knative's largest kinds have about 400."""
DEPTH_MAX = 60
"""Nesting depth of schemas; an object may nest 64 levels."""
RULES_MAX = 500
"""Rules within the schema of one version; Knative's largest kinds have about 40. Compiling one
takes a tenth of a millisecond to a few milliseconds.
"""

PATTERN_WEIGHT_MAX = 500_000
"""Estimated instructions of all patterns within the schema of one version: all are compiled, which
takes a second in the worst case.
"""

TextCheck = Callable[[str], str | None]
"""Returns what is wrong with the text of a rule, or of a pattern; None when it compiles."""

_TYPES = ["array", "boolean", "integer", "number", "object", "string"]
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
_BOOLEAN: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_FORM: Schema = {
    "type": "object",
    "properties": {
        **dict.fromkeys(
            (
                "nullable",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "uniqueItems",
                PRESERVE,
                EMBEDDED,
                INT_OR_STRING,
            ),
            _BOOLEAN,
        ),
        **dict.fromkeys(
            ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
            _COUNT,
        ),
        **{name: {"type": "array", "items": _OBJECT} for name in _JUNCTIONS},
        **{name: {"type": "array", "items": _TEXT} for name in ("required", LIST_MAP_KEYS)},
        "type": {"type": "string", "enum": _TYPES},
        "format": _TEXT,
        "pattern": _TEXT,
        "enum": {"type": "array", "minItems": 1},
        "minimum": _NUMBER,
        "maximum": _NUMBER,
        "multipleOf": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "items": _OBJECT,
        "not": _OBJECT,
        "properties": {"type": "object", "additionalProperties": _OBJECT},
        LIST_TYPE: {"type": "string", "enum": ["atomic", "map", "set"]},
        MAP_TYPE: {"type": "string", "enum": ["atomic", "granular"]},
        RULES: {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    **dict.fromkeys(("rule", "message", "messageExpression", "fieldPath"), _TEXT),
                    "optionalOldSelf": _BOOLEAN,
                    "reason": {
                        "type": "string",
                        "enum": [
                            "FieldValueInvalid",
                            "FieldValueForbidden",
                            "FieldValueRequired",
                            "FieldValueDuplicate",
                        ],
                    },
                },
            },
        },
    },
}
"""The form of one schema, without the schemas nested in it."""


class _Node(NamedTuple):
    """One schema of the tree."""

    schema: Any
    """A mapping, once its form has been checked."""
    path: str
    depth: int
    structural: bool
    """False within `allOf`, `anyOf`, `oneOf` and `not`, which only constrain values."""


def schema_problems(
    schema: Any, path: str, *, rule: TextCheck, pattern: TextCheck
) -> list[StatusCause]:
    """Problems of the schema of one version, which is at `path` of its definition."""
    nodes, found = _tree(schema, path)
    if found:
        return found
    found = list(_root_problems(schema, path))
    if sum(len(node.schema.get(RULES) or ()) for node in nodes) > RULES_MAX:
        return [*found, status_causes.forbidden(path, f"has more than {RULES_MAX} rules in it")]
    patterns = {node.schema["pattern"] for node in nodes if node.schema.get("pattern")}
    if sum(pattern_weight(each[:PATTERN_MAX]) for each in patterns) > PATTERN_WEIGHT_MAX:
        return [
            *found,
            status_causes.forbidden(
                path, f"has patterns of more than {PATTERN_WEIGHT_MAX} instructions in it, together"
            ),
        ]
    for node in nodes:
        found += _structure_problems(node)
        found += _text_problems(node, rule, pattern)
        if "default" in node.schema:
            found += _default_problems(node)
    return found


def _tree(schema: Any, path: str) -> tuple[list[_Node], list[StatusCause]]:
    """All schemas nested in a schema, outermost first, and the problems of their form. Walks
    without recursion.
    """
    nodes: list[_Node] = []
    found: list[StatusCause] = []
    waiting = [_Node(schema, path, 1, True)]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if len(nodes) > NODES_MAX:
            return nodes, [
                status_causes.forbidden(path, f"has more than {NODES_MAX} schemas in it")
            ]
        if node.depth > DEPTH_MAX:
            return nodes, [status_causes.forbidden(path, f"nested deeper than {DEPTH_MAX} schemas")]
        problems = list(_form_problems(node))
        found += problems
        if not problems:
            waiting += reversed(list(_within(node)))
    return nodes, found


def _within(node: _Node) -> Iterator[_Node]:
    """The schemas directly within one whose form is valid."""
    schema, path, depth, structural = node
    for name, each in (schema.get("properties") or {}).items():
        yield _Node(each, f"{path}.properties[{name}]", depth + 1, structural)
    for name in ("additionalProperties", "items"):
        if isinstance(schema.get(name), Mapping):
            yield _Node(schema[name], f"{path}.{name}", depth + 1, structural)
    for junction in _JUNCTIONS:
        for index, each in enumerate(schema.get(junction) or ()):
            yield _Node(each, f"{path}.{junction}[{index}]", depth + 1, False)
    if "not" in schema:
        yield _Node(schema["not"], f"{path}.not", depth + 1, False)


def _form_problems(node: _Node) -> Iterator[StatusCause]:
    for cause in validate(node.schema, _FORM, matches=lambda pattern, text: True):
        yield cause._replace(field=child(node.path, cause.field) if cause.field else node.path)
    extra = (
        node.schema.get("additionalProperties", True) if isinstance(node.schema, Mapping) else True
    )
    if not isinstance(extra, bool | Mapping):
        yield status_causes.type_invalid(
            f"{node.path}.additionalProperties", "", "must be a schema or a boolean"
        )


def _root_problems(schema: Schema, path: str) -> Iterator[StatusCause]:
    if schema.get("type") != "object":
        yield status_causes.invalid(
            f"{path}.type", schema.get("type", ""), "must be object at the root"
        )
    for name, each in (schema.get("properties") or {}).items():
        wanted = "object" if name == "metadata" else "string"
        if name in RESOURCE_FIELDS and each.get("type") != wanted:
            yield status_causes.invalid(
                f"{path}.properties[{name}].type", each.get("type", ""), f"must be {wanted}"
            )


def _structure_problems(node: _Node) -> Iterator[StatusCause]:
    schema, path = node.schema, node.path
    for name in _FORBIDDEN:
        if name in schema:
            yield status_causes.forbidden(f"{path}.{name}", f"{name} is not supported")
    if not node.structural:
        return
    if not schema.get("type") and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        yield status_causes.required(
            f"{path}.type", "must not be empty for specified object fields"
        )
    if schema.get("properties") and schema.get("additionalProperties"):
        yield status_causes.forbidden(
            f"{path}.additionalProperties",
            "additionalProperties and properties are mutual exclusive",
        )
    if schema.get("type") == "array" and not schema.get("items"):
        yield status_causes.required(f"{path}.items", "must be specified")
    if schema.get("uniqueItems"):
        yield status_causes.forbidden(
            f"{path}.uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        )
    if schema.get(LIST_TYPE) == "map" and not schema.get(LIST_MAP_KEYS):
        yield status_causes.required(
            f"{path}.{LIST_MAP_KEYS}", f"must not be empty if {LIST_TYPE} is map"
        )


def _text_problems(node: _Node, rule: TextCheck, pattern: TextCheck) -> Iterator[StatusCause]:
    schema, path = node.schema, node.path
    if schema.get("pattern") and (wrong := pattern(schema["pattern"])):
        yield status_causes.invalid(
            f"{path}.pattern",
            schema["pattern"],
            f"must be a valid regular expression, but isn't: {wrong}",
        )
    for index, each in enumerate(schema.get(RULES) or ()):
        where = f"{path}.{RULES}[{index}]"
        if not each.get("rule", "").strip():
            yield status_causes.required(f"{where}.rule", "rule is not specified")
            continue
        for name in ("rule", "messageExpression"):
            if each.get(name) and (wrong := rule(each[name])):
                yield status_causes.invalid(
                    f"{where}.{name}", each[name], f"compilation failed: {wrong}"
                )


def _default_problems(node: _Node) -> Iterator[StatusCause]:
    default, path = node.schema["default"], f"{node.path}.default"
    if not node.structural:
        yield status_causes.forbidden(path, "must be undefined to be structural")
        return
    # A default is validated by its own schema: an invalid one would make every object invalid that
    # does not set the field.
    for cause in validate(default, node.schema, matches=lambda pattern, text: True)[:10]:
        yield cause._replace(field=child(path, cause.field) if cause.field else path)
    if isinstance(default, dict) and pruned(default, node.schema, whole=False)[1]:
        yield status_causes.invalid(
            path, default, "must be pruned: it has fields that the schema does not know"
        )
