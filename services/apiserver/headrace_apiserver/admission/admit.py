"""Checks between a request and the store: structure, defaults, the rules of the kind, its schema,
and its rules in CEL, in this order.

The same function serves every write (create, replace, patch, apply; dry run or not), so nothing
unchecked is stored. Codes and messages are those of the Kubernetes API server (unknown fields 400,
schema and CEL 422) with a validating webhook between them (rules of the kind: 400).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.domain.field_errors import FieldError, render
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.crd_validation import definition_problems, is_api_group
from headrace_apiserver.kinds.served import DEFINITION_GROUP, DEFINITION_KIND, ServedKind
from headrace_apiserver.requests.options import Strictness
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
from headrace_apiserver.strategy import NO_RULES, KindStrategy

_BLOCKS_CEL = frozenset(
    (
        status_causes.NOT_SUPPORTED,
        status_causes.REQUIRED,
        status_causes.TOO_LONG,
        status_causes.TOO_MANY,
        status_causes.TYPE_INVALID,
    )
)
"""Reasons after which rules in CEL are not evaluated: they are written for values that the schema
allows.
"""
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing"
    " errors to complete validation"
)
_WARNINGS_MAX = 100
_LOOP_RULE_CHARACTERS = 16_384
"""Characters of the rules of a definition that are compiled on the event loop: about 0.05 s."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The object that may be stored, and warnings for the client."""

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
    strategy: KindStrategy = NO_RULES,
) -> Admitted:
    """Return what may be stored of a create (no `old`), a replace, or a write of the status
    (`subresource="status"`).

    `document` and `old` are whole objects in the version of `served`, with the name and namespace
    of their path. `kinds` protects the definitions that it came with; `strategy` is that of the
    kind. Raises StatusError: 400 for unknown fields, unreadable metadata and rules of the kind, 422
    for everything else. Raises LoopBudgetExceeded on the event loop if it would take too long.
    """
    decoded = decode(served, document, strictness=strictness)
    if subresource == "status":
        return Admitted(_status_admitted(served, decoded.document, old or {}), decoded.warnings)
    whole = decoded.document
    if not wrong_types(whole, served.schema):
        # A document with other types is rejected below; the kind's rules could not even read it.
        whole = _by_strategy(served, whole, old, strategy)
    found = metadata_problems(
        served.kind, whole["metadata"], None if old is None else old["metadata"]
    )
    content = (
        {key: value for key, value in whole.items() if key != "status"}
        if served.kind.has_status
        else whole
    )
    found += _schema_problems(served, content, old)
    if _is_definition(served.kind) and not found:
        found += _definition_problems(whole, kinds, served.kind)
    _reject(served, whole, found)
    warnings = strategy.warnings(Resource(served.kind, whole))[:_WARNINGS_MAX]
    return Admitted(whole, (*decoded.warnings, *warnings))


def decode(served: ServedKind, document: Mapping[str, Any], *, strictness: Strictness) -> Admitted:
    """The object after decoding: only known fields, with the defaults of the schema. Raises
    StatusError 400.
    """
    metadata, unknown = read_metadata(served.kind, document.get("metadata"))
    kept, unknown_below = pruned({**document, "metadata": metadata}, served.schema)
    unknown = sorted(unknown + unknown_below)
    texts = [f'unknown field "{path}"' for path in unknown]
    if texts and strictness is Strictness.STRICT:
        raise unreadable(served.kind, f"strict decoding error: {', '.join(texts)}")
    warnings = texts[:_WARNINGS_MAX] if strictness is Strictness.WARN else []
    return Admitted(defaulted(kept, served.schema), tuple(warnings))


def _by_strategy(
    served: ServedKind,
    document: dict[str, Any],
    old: Mapping[str, Any] | None,
    strategy: KindStrategy,
) -> dict[str, Any]:
    """The document with the defaults of its kind. Raises StatusError 400 if it breaks a rule of the
    kind.
    """
    resource = strategy.set_defaults(Resource(served.kind, document))
    errors = strategy.validate(resource)
    if old is not None and not errors:
        errors = strategy.validate_update(resource, Resource(served.kind, old))
    if errors:
        raise _denied(served.kind, resource.name, errors)
    return dict(resource.object)


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


def _schema_problems(
    served: ServedKind, document: Mapping[str, Any], old: Mapping[str, Any] | None
) -> list[StatusCause]:
    """What breaks the schema and its rules, without what was broken before: a stored object stays
    writable when its schema becomes stricter.
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
    """What was found, with the remark that rules in CEL were not checked; empty if they must be."""
    if not any(cause.reason in _BLOCKS_CEL for cause in found):
        return []
    # In Kubernetes the core kinds have no rules in CEL: the remark would confuse a reader.
    return (
        [*found, status_causes.invalid(status_causes.NOWHERE, None, _NOT_CHECKED)]
        if served.custom and served.rules
        else found
    )


def _status_admitted(
    served: ServedKind, document: Mapping[str, Any], old: Mapping[str, Any]
) -> dict[str, Any]:
    """The old object with the status of the new one. Raises StatusError 422 if the status breaks
    the schema.
    """
    kept = {key: value for key, value in old.items() if key != "status"}
    kept["metadata"] = {**old.get("metadata", {}), **_kept_metadata(document["metadata"])}
    if "status" not in document:
        return kept
    status = document["status"]
    schema = (served.schema.get("properties") or {}).get("status") or {}
    rules = served.rules.properties.get("status") if served.rules else None
    # Validated as a document of its own, as in the Kubernetes API server: messages name the field
    # from here, causes from the root.
    found = [
        (
            cause
            if cause.field == status_causes.NOWHERE
            else cause._replace(field=f"status.{cause.field}" if cause.field else "status")
        )
        for cause in validate(status, schema, matches=matches)
    ]
    _reject(
        served,
        document,
        _unchecked(served, found)
        or found + broken_rules(status, rules, old=old.get("status"), path="status"),
    )
    return {**kept, "status": status}


def _kept_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that a status write may contain: the version it was made from, and the managers
    of the fields it sets.
    """
    return {
        name: metadata[name]
        for name in ("resourceVersion", "uid", "managedFields")
        if name in metadata
    }


def _definition_problems(
    document: Mapping[str, Any], kinds: Catalog | None, kind: ResourceKind
) -> list[StatusCause]:
    name = str(document["metadata"].get("name", ""))
    if kinds is not None and kinds.is_builtin(name):
        raise forbidden(kind, name, "it came with this API and cannot be changed")
    return definition_problems(
        document,
        is_reserved=is_api_group if kinds is None else kinds.is_reserved_group,
        rule=_RuleChecks().problem,
        pattern=pattern_problem,
    )


class _RuleChecks:
    """Compiles the rules of one definition. Many of them take seconds."""

    def __init__(self) -> None:
        self._left = _LOOP_RULE_CHARACTERS

    def problem(self, text: str) -> str | None:
        """What is wrong with the text of a rule. Raises LoopBudgetExceeded on the event loop if
        the check would block it for too long.
        """
        self._left -= len(text)
        if self._left < 0 and is_on_loop():
            raise LoopBudgetExceeded
        return rule_problem(text)


def _is_definition(kind: ResourceKind) -> bool:
    return kind.group == DEFINITION_GROUP and kind.kind == DEFINITION_KIND


def _reject(served: ServedKind, document: Mapping[str, Any], found: Sequence[StatusCause]) -> None:
    if found:
        raise invalid(served.kind, str((document.get("metadata") or {}).get("name") or ""), found)
