"""What stands between a request and the store: shape, defaults, the kind's own rules, its schema's
and those in CEL, in this order.

The same function serves every write (create, replace, patch, apply; dry or not), so nothing
unchecked is stored. It answers in the words of two servers: the Kubernetes API server (unknown
fields 400, schema and CEL 422) and Knative's webhook between them (400).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headrace.domain.field_errors import FieldError, render
from headrace.resources.kind_rules import RULES, KindRules
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.system_config import BUILT_IN, SystemConfig
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.crd_validation import definition_problems
from headrace_apiserver.kinds.served import DEFINITION_GROUP, DEFINITION_KIND, ServedKind
from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.cel import matches, pattern_problem, rule_problem
from headrace_apiserver.schemas.defaulting import defaulted
from headrace_apiserver.schemas.loop_budget import LoopBudgetExceeded, is_on_loop
from headrace_apiserver.schemas.metadata import metadata_problems, read_metadata, unreadable
from headrace_apiserver.schemas.pruning import pruned
from headrace_apiserver.schemas.rules import broken_rules
from headrace_apiserver.schemas.schema import validate, wrong_types
from headrace_apiserver.statuses import (
    VALUE_INVALID,
    StatusCause,
    StatusError,
    failure,
    forbidden,
    invalid,
)
from headrace_controller.system_config import validate as validate_config_map

_OWN_RULES = {(kind.group, kind.kind): rules for kind, rules in RULES.items()}
"""What kinds demand beyond their schema, by group and kind: the same in every version."""
_OWN_RULES["", "ConfigMap"] = KindRules(validate=validate_config_map)
_HINDERING = frozenset(
    (
        status_causes.NOT_SUPPORTED,
        status_causes.REQUIRED,
        status_causes.TOO_LONG,
        status_causes.TOO_MANY,
        status_causes.TYPE_INVALID,
    )
)
"""Reasons after which rules in CEL are not evaluated: they were written for values that the schema
allows.
"""
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing"
    " errors to complete validation"
)
_WARNINGS_MAX = 100
_LOOP_RULE_CHARACTERS = 16_384
"""Characters of the rules of a definition that are compiled on the loop: about 0.05 s of them."""


class Strictness(StrEnum):
    """What becomes of fields that a kind does not have: refused, dropped with a warning, or
    dropped.
    """

    STRICT = "Strict"
    WARN = "Warn"
    IGNORE = "Ignore"


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be stored, and what to warn about."""

    document: dict[str, Any]
    warnings: tuple[str, ...] = ()


def admit(
    served: ServedKind,
    document: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    strictness: Strictness = Strictness.STRICT,
    subresource: str | None = None,
    kinds: Catalog | None = None,
    system: SystemConfig = BUILT_IN,
) -> Admitted:
    """Return what may be stored of a create (no `old`), a replace, or a write of the status
    (`subresource="status"`).

    `document` and `old` are whole objects in the version of `served`, with the name and namespace
    of their path. `kinds` protects the definitions that came with it, `system` is what the
    installation's ConfigMaps say. Raises StatusError: 400 for unknown fields, metadata that cannot
    be read and rules of the kind, 422 for everything else.
    """
    decoded = decode(served, document, strictness=strictness)
    if subresource == "status":
        return Admitted(_status_admitted(served, decoded.document, old or {}), decoded.warnings)
    whole = decoded.document
    if not wrong_types(whole, served.schema):
        # A document of other types is refused below; the kind's own rules could not even read it.
        whole = _with_own_rules(served, whole, old, system)
    found = metadata_problems(
        served.kind, whole["metadata"], None if old is None else old["metadata"]
    )
    content = (
        {key: value for key, value in whole.items() if key != "status"}
        if served.kind.has_status
        else whole
    )
    found += _found_in(served, content, old)
    if _is_definition(served.kind) and not found:
        found += _definition_found(whole, kinds, served.kind)
    _refuse(served, whole, found)
    return Admitted(whole, (*decoded.warnings, *_remarks(served, whole)))


def decode(served: ServedKind, document: Mapping[str, Any], *, strictness: Strictness) -> Admitted:
    """An object as it is after reading: metadata's known fields, no unknown fields, the schema's
    defaults. Raises StatusError 400.
    """
    metadata, unknown = read_metadata(served.kind, document.get("metadata"))
    kept, unknown_below = pruned({**document, "metadata": metadata}, served.schema)
    unknown = sorted(unknown + unknown_below)
    texts = [f'unknown field "{path}"' for path in unknown]
    if texts and strictness is Strictness.STRICT:
        raise unreadable(served.kind, f"strict decoding error: {', '.join(texts)}")
    warnings = texts[:_WARNINGS_MAX] if strictness is Strictness.WARN else []
    return Admitted(defaulted(kept, served.schema), tuple(warnings))


def _with_own_rules(
    served: ServedKind,
    document: dict[str, Any],
    old: Mapping[str, Any] | None,
    system: SystemConfig,
) -> dict[str, Any]:
    """The document with its kind's own defaults. Raises StatusError 400 when it breaks a rule of
    the kind.
    """
    rules = _OWN_RULES.get((served.kind.group, served.kind.kind))
    if rules is None:
        return document
    resource = rules.default(Resource(served.kind, document), system)
    errors = rules.validate(resource, system)
    if old is not None and not errors:
        errors = rules.validate_update(resource, Resource(served.kind, old))
    if errors:
        raise _denied(served.kind, resource.name, errors)
    return dict(resource.object)


def _remarks(served: ServedKind, document: Mapping[str, Any]) -> list[str]:
    """What is allowed and hardly meant, in an object that may be stored."""
    rules = _OWN_RULES.get((served.kind.group, served.kind.kind))
    return (
        rules.remarks(Resource(served.kind, document))[:_WARNINGS_MAX] if rules is not None else []
    )


def _denied(kind: ResourceKind, name: str, errors: Sequence[FieldError]) -> StatusError:
    causes = [
        {
            "reason": VALUE_INVALID,
            "message": each.message + (f" ({each.details})" if each.details else ""),
            "field": path,
        }
        for each in errors
        for path in each.paths or ("",)
    ]
    details = {"name": name, "group": kind.group, "kind": kind.plural, "causes": causes}
    return failure(400, "BadRequest", f"validation failed: {render(errors)}", details)


def _found_in(
    served: ServedKind, document: Mapping[str, Any], old: Mapping[str, Any] | None
) -> list[StatusCause]:
    """What breaks the schema and its rules, less what was so before: a stored object stays writable
    when its schema grows stricter.
    """
    found = _validated(served, document, old)
    if found and old is not None:
        before = set(_validated(served, old, old))
        found = [cause for cause in found if cause not in before]
    return found


def _validated(
    served: ServedKind, document: Mapping[str, Any], old: Mapping[str, Any] | None
) -> list[StatusCause]:
    found = validate(document, served.schema, matches=matches)
    return _unchecked(served, found) or found + broken_rules(document, served.rules, old=old)


def _unchecked(served: ServedKind, found: list[StatusCause]) -> list[StatusCause]:
    """What was found, with the remark that rules in CEL are left out for it; nothing when they are
    not.
    """
    if not any(cause.reason in _HINDERING for cause in found):
        return []
    # The core kinds have no rules in Kubernetes; that ours are written as such is no affair of the
    # reader's.
    return (
        [*found, status_causes.invalid(status_causes.NOWHERE, None, _NOT_CHECKED)]
        if served.custom and served.rules
        else found
    )


def _status_admitted(
    served: ServedKind, document: Mapping[str, Any], old: Mapping[str, Any]
) -> dict[str, Any]:
    """The old object with the status of the new one. Raises StatusError 422 when that is not what
    the schema says of a status.
    """
    kept = {key: value for key, value in old.items() if key != "status"}
    kept["metadata"] = {**old.get("metadata", {}), **_kept_metadata(document["metadata"])}
    if "status" not in document:
        return kept
    status = document["status"]
    schema = (served.schema.get("properties") or {}).get("status") or {}
    rules = served.rules.properties.get("status") if served.rules else None
    # Judged as a document of its own, as the API server does it: messages name the field from here,
    # causes from the root.
    found = [
        (
            cause
            if cause.field == status_causes.NOWHERE
            else cause._replace(field=f"status.{cause.field}" if cause.field else "status")
        )
        for cause in validate(status, schema, matches=matches)
    ]
    _refuse(
        served,
        document,
        _unchecked(served, found)
        or found + broken_rules(status, rules, old=old.get("status"), path="status"),
    )
    return {**kept, "status": status}


def _kept_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a status write may bring beside the status: the version it was made from, and who owns
    the fields it sets.
    """
    return {
        name: metadata[name]
        for name in ("resourceVersion", "uid", "managedFields")
        if name in metadata
    }


def _definition_found(
    document: Mapping[str, Any], kinds: Catalog | None, kind: ResourceKind
) -> list[StatusCause]:
    name = str(document["metadata"].get("name", ""))
    if kinds is not None and kinds.is_builtin(name):
        raise forbidden(kind, name, "it came with this API and cannot be changed")
    return definition_problems(document, rule=_RuleChecks().problem, pattern=pattern_problem)


class _RuleChecks:
    """Compiles the rules of one definition. Many of them take seconds."""

    def __init__(self) -> None:
        self._left = _LOOP_RULE_CHARACTERS

    def problem(self, text: str) -> str | None:
        """What is wrong with the text of a rule. Raises LoopBudgetExceeded where nobody may wait
        for it.
        """
        self._left -= len(text)
        if self._left < 0 and is_on_loop():
            raise LoopBudgetExceeded
        return rule_problem(text)


def _is_definition(kind: ResourceKind) -> bool:
    return kind.group == DEFINITION_GROUP and kind.kind == DEFINITION_KIND


def _refuse(served: ServedKind, document: Mapping[str, Any], found: Sequence[StatusCause]) -> None:
    if found:
        raise invalid(served.kind, str((document.get("metadata") or {}).get("name") or ""), found)
