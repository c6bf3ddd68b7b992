"""Evaluates the CEL rules of a schema (`x-kubernetes-validations`) on the values of a document.

A rule that uses `oldSelf` runs only where the old document has a value at the same place: the same
field, the same key of a map, or the entry of a map list with the same keys; entries of other lists
have no old value. Messages, reasons and their order are the API server's.
"""

import base64
import binascii
from collections.abc import Mapping
from time import thread_time
from typing import Any

from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.cel import InvalidRule, RuleFailed, Values, compiled
from headrace_apiserver.schemas.keywords import Schema
from headrace_apiserver.schemas.list_types import entry_key
from headrace_apiserver.schemas.loop_budget import LOOP_SECONDS, LoopBudgetExceeded, is_on_loop
from headrace_apiserver.schemas.rule_tree import RuleNode, ValidationRule, is_typed
from headrace_apiserver.schemas.status_causes import NOWHERE, child
from headrace_apiserver.statuses import StatusCause

EVALUATIONS_MAX = 5_000
"""Rules evaluated for one document: about 0.1 s of them."""
CPU_SECONDS_MAX = 0.5
"""Processor time of the rules of one document: after a rule has exceeded it no further rules run.
It bounds rules with loops over long lists.
"""
CAUSES_MAX = 100
"""Evaluation stops after this many broken rules; each cause repeats the text of its rule."""
MESSAGE_MAX = 5_120
_ROOT_METADATA = ("name", "generateName")
"""Fields of the metadata that rules at the root may read."""


def broken_rules(
    document: Mapping[str, Any],
    tree: RuleNode | None,
    *,
    old: Mapping[str, Any] | None = None,
    path: str = "",
) -> list[StatusCause]:
    """The rules of `tree` that a valid document breaks; `old` is the document that it replaces.
    Raises LoopBudgetExceeded (see `loop_budget`).
    """
    if tree is None:
        return []
    walk = _Walk()
    walk.value(document, old, tree, path, root=not path)
    return walk.causes


class _Walk:
    """One check of a document: the causes found, and how many rules it may still evaluate."""

    __slots__ = ("_end", "_left", "_on_event_loop", "causes")

    def __init__(self) -> None:
        self.causes: list[StatusCause] = []
        self._left = EVALUATIONS_MAX
        self._on_event_loop = is_on_loop()
        self._end = thread_time() + (LOOP_SECONDS if self._on_event_loop else CPU_SECONDS_MAX)

    def value(self, value: Any, old: Any, node: RuleNode, path: str, *, root: bool = False) -> None:
        """Check one value and everything in it."""
        if value is None or self._left < 0 or len(self.causes) >= CAUSES_MAX:
            return
        if node.rules:
            self._rules(value, old, node, path, root)
        for each in node.alternatives:
            self.value(value, old, each, path)
        if isinstance(value, list) and node.items is not None:
            self._list(value, old, node, node.items, path)
        elif isinstance(value, dict):
            before: Mapping[str, Any] = old if isinstance(old, Mapping) else {}
            for name, below in node.properties.items():
                if name in value:
                    self.value(value[name], before.get(name), below, child(path, name))
            if node.extra is not None:
                for name, each in value.items():
                    self.value(each, before.get(name), node.extra, f"{path}[{name}]")

    def _list(self, value: list[Any], old: Any, node: RuleNode, below: RuleNode, path: str) -> None:
        before: dict[str, Any] = {}
        if node.map_keys and isinstance(old, list):
            before = {entry_key(each, node.map_keys): each for each in old}
        for index, each in enumerate(value):
            self.value(
                each,
                before.get(entry_key(each, node.map_keys)) if before else None,
                below,
                f"{path}[{index}]",
            )

    def _rules(self, value: Any, old: Any, node: RuleNode, path: str, root: bool) -> None:
        values = Values(_seen(value, node, root), None if old is None else _seen(old, node, root))
        for rule in node.rules:
            self._left -= 1
            if self._on_event_loop and thread_time() > self._end:
                raise LoopBudgetExceeded
            if self._left < 0 or thread_time() > self._end:
                self._left = -1
                detail = (
                    "validation failed due to running out of cost budget, no further validation"
                    " rules will be run"
                )
                self.causes.append(status_causes.invalid(path or NOWHERE, node.type_name, detail))
                return
            broken = _broken(rule, values, has_old=old is not None)
            self._end -= values.subprocess_seconds
            values.subprocess_seconds = 0.0
            if broken is not None:
                self.causes.append(_cause(rule, path, node.type_name, broken))


def _broken(rule: ValidationRule, values: Values, *, has_old: bool) -> str | None:
    """The cause for a rule that is broken or could not be evaluated; None if it holds or does not
    apply.
    """
    try:
        program = compiled(rule.text, optional_old=rule.optional_old)
        if program.uses_old and not has_old and not rule.optional_old:
            return None
        if program.holds(values):
            return None
    except InvalidRule as error:
        return f"rule compile error: {error}"
    except RuleFailed as error:
        return _failure(str(error), rule.message or rule.text.strip())
    return _message(rule, values)


def _failure(error: str, rule: str) -> str:
    if error == "no such overload":
        return (
            f"'{error}': call arguments did not match a supported operator, function or macro"
            f" signature for rule: {rule}"
        )
    if error.startswith("cost limit exceeded"):
        return (
            f"'{error}': no further validation rules will be run due to call cost exceeds limit for"
            f" rule: {rule}"
        )
    return f"{error} evaluating rule: {rule}"


def _message(rule: ValidationRule, values: Values) -> str:
    if rule.message_expression:
        try:
            text = (
                compiled(rule.message_expression, optional_old=rule.optional_old).text(values) or ""
            ).strip()
        except (InvalidRule, RuleFailed):
            # The rule is broken nevertheless; its fixed message is used.
            text = ""
        if text and len(text) <= MESSAGE_MAX and "\n" not in text:
            return text
    return rule.message or f"failed rule: {rule.text.strip()}"


def _cause(rule: ValidationRule, path: str, type_name: str, detail: str) -> StatusCause:
    where = _under(path, rule.field_path) or NOWHERE
    match rule.reason:
        case "FieldValueRequired":
            return status_causes.required(where, detail)
        case "FieldValueForbidden":
            return status_causes.forbidden(where, detail)
        case "FieldValueDuplicate":
            return status_causes.duplicate(where, type_name)
    return status_causes.invalid(where, type_name, detail)


def _under(path: str, field_path: str) -> str:
    """A rule's `fieldPath` (`.uri`, `.map['key']`) appended to the path of its value."""
    if not field_path:
        return path
    plain = field_path.replace("['", "[").replace("']", "]")
    return path + plain if path else plain.removeprefix(".")


def _seen(value: Any, node: RuleNode, root: bool) -> Any:
    """A value as a rule sees it."""
    if node.typed:
        value = _typed(value, node.schema)
    if root and isinstance(value, dict) and "metadata" in value:
        metadata = value["metadata"]
        value = {
            **value,
            "metadata": {name: metadata[name] for name in _ROOT_METADATA if name in metadata},
        }
    return value


def _typed(value: Any, schema: Schema) -> Any:
    """A value with numbers as CEL doubles and `format: byte` as bytes, which JSON cannot
    distinguish from integers and texts.
    """
    if not is_typed(schema):
        return value
    if isinstance(value, list):
        return [_typed(each, schema.get("items") or {}) for each in value]
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        other: Schema = extra if isinstance(extra, Mapping) else {}
        return {name: _typed(each, properties.get(name, other)) for name, each in value.items()}
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if schema.get("format") == "byte" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return value
    return value
