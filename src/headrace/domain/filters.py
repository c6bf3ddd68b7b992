"""Filters of a subscription: the dialects of Knative's `spec.filter` and `spec.filters`, compiled
once for each change.

An entry is a mapping with one dialect: `exact`, `prefix`, `suffix` (attribute to text), `all`,
`any` (lists of entries), `not` (an entry), `cesql` (an expression), and `attributes` for the older
`filter.attributes`. An event matches if all entries pass. Without entries, every event matches.

An entry without a dialect, an empty dialect, and a `not` that contains one of these have no
condition and pass. In Knative, an `any` passes if it ends with such an entry, but not if it starts
with one; here both pass.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from headrace.domain.cesql import (
    BUILT_IN,
    Attributes,
    ErrorKind,
    Expression,
    ParseError,
    Problem,
    Type,
    compile_expression,
)
from headrace.domain.cesql.budget import STEPS_MAX, BudgetExceeded, Metered
from headrace.domain.cesql.functions import why_unknown
from headrace.domain.cesql.nodes import calls, parts
from headrace.domain.field_errors import FieldError, invalid, invalid_key, missing
from headrace.domain.filter_clauses import (
    AllOf,
    AnyOf,
    Cesql,
    Clause,
    Compare,
    Comparison,
    Explanation,
    LegacyAttribute,
    Negation,
    OnError,
    Predicate,
)

__all__ = [
    "ATTRIBUTE_NAME_RULE",
    "CLAUSES_MAX",
    "DEPTH_MAX",
    "TEXT_LENGTH_MAX",
    "Explanation",
    "Filter",
    "InvalidFilter",
    "compile",
    "entries_of_spec",
    "is_attribute_name",
    "remarks",
    "validate",
]

DEPTH_MAX = 32
"""How deep `all`, `any` and `not` may be nested."""
CLAUSES_MAX = 1_000
"""Entries, attributes and parts of expressions in all filters of one subscription."""
TEXT_LENGTH_MAX = 8_192
"""Characters of a text to compare with. No attribute value is longer."""
NAME_LENGTH_MAX = 64
REMARKS_MAX = 32
ATTRIBUTE_NAME_RULE = (
    "Attribute name must start with a letter and can only contain lowercase alphanumeric"
)
"""The rule of `is_attribute_name`, in the wording of Knative's validation."""

_LEGACY = "attributes"
_DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "cesql", _LEGACY)
_NESTING = frozenset({"all", "any", "not"})
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_LETTERS_AND_DIGITS = _LETTERS | frozenset("0123456789")
_SHOWN_MAX = 200


class InvalidFilter(ValueError):
    """The filters cannot be compiled; `errors` contains the fields and the reasons."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(
            "; ".join(
                error.headline + (f" ({error.details})" if error.details else "")
                for error in errors[:5]
            )
        )
        self.errors = tuple(errors)


def _passes_all(attributes: Attributes) -> bool:
    return True


def _ignored(problem: Problem) -> None:
    """Ignore a failed evaluation; the event does not match. Callers that count failures pass
    `on_error`.
    """


class Filter:
    """Compiled filters: `matches` for the hot path, `explain` for users.

    Each evaluation has a budget of steps for all clauses together (`headrace.domain.cesql.budget`).
    If it exceeds the budget, the event does not match, even inside `not`.
    """

    __slots__ = ("budgeted", "matches", "on_error", "root")

    def __init__(self, root: Clause | None, on_error: OnError) -> None:
        self.root = root
        """The clause that an event must pass; None if every event matches."""
        self.on_error = on_error
        """Called by `matches` with the problem of each evaluation that fails."""
        self.budgeted = root is not None and root.steps_max() > STEPS_MAX
        """Whether an evaluation may exceed its budget."""
        self.matches: Predicate = _passes_all
        """Whether an event with these attributes matches. Never raises."""
        if root is not None:
            self.matches = (
                _within_budget(root, on_error) if self.budgeted else root.predicate(on_error)
            )

    def explain(self, attributes: Attributes) -> Explanation:
        """Return whether the event matches, and the clause that decided. Does not call
        `on_error`.
        """
        if self.root is None:
            return Explanation(True, "filters", "everything")
        if self.budgeted:
            exceeded: list[Problem] = []
            _within_budget(self.root, exceeded.append)(attributes)
            if exceeded and exceeded[-1].kind is ErrorKind.BUDGET:
                return Explanation(
                    False, "filters", f"at most {STEPS_MAX} steps", problem=exceeded[-1]
                )
        return self.root.explain(attributes)


def _within_budget(root: Clause, on_error: OnError) -> Predicate:
    predicate = root.predicate(on_error, metered=True)

    def matches(attributes: Attributes) -> bool:
        try:
            return predicate(Metered(attributes))
        except BudgetExceeded as error:
            on_error(error.problem)
            return False

    return matches


def compile(
    filters: Sequence[Mapping[str, Any]], *, on_error: OnError | None = None, path: str = "filters"
) -> Filter:
    """Compile the entries of `spec.filters`. An event must pass all of them; without entries, every
    event matches.

    `on_error` is called with the problem of each CESQL evaluation that fails, on the caller's
    thread. `path` is the path of the entries in error messages.

    Raises `InvalidFilter` for unknown dialects, wrong types, expressions that cannot be parsed and
    exceeded limits. Entries that `validate` refuses because they are most likely mistakes (empty
    texts, invalid attribute names) are compiled, and never match.
    """
    reader = _Reader()
    root = reader.entries(filters, path)
    if reader.fatal:
        raise InvalidFilter(reader.fatal)
    return Filter(root, on_error or _ignored)


def validate(filters: Sequence[Mapping[str, Any]], path: str) -> list[FieldError]:
    """Return all errors in the entries at `path` of a manifest: those for which `compile` raises,
    and likely mistakes.
    """
    reader = _Reader()
    reader.entries(filters, path)
    return reader.fatal + reader.surprising


def remarks(filters: Sequence[Mapping[str, Any]], path: str) -> list[str]:
    """Return warnings about valid entries that are most likely mistakes: calls of functions that do
    not exist, which in CESQL fail only during evaluation.
    """
    reader = _Reader()
    reader.entries(filters, path)
    warnings = (
        f"{path}: {why}; as it is, calling it is an error, and an expression that ends in one"
        " matches nothing"
        for path, expression in reader.expressions
        for call in calls(expression.node)
        if (why := why_unknown(BUILT_IN, call.name, len(call.arguments)))
    )
    return list(dict.fromkeys(islice(warnings, REMARKS_MAX)))


def entries_of_spec(spec: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the entries that apply in a spec: `filters` if it has entries, else
    `filter.attributes`, else none (every event matches).
    """
    if spec.get("filters"):
        return tuple(spec["filters"])
    attributes = (spec.get("filter") or {}).get("attributes")
    return ({"attributes": dict(attributes)},) if attributes else ()


def is_attribute_name(name: str) -> bool:
    """Whether Knative accepts `name` as a CloudEvents attribute in a filter, of any length."""
    return name[:1] in _LETTERS and _LETTERS_AND_DIGITS.issuperset(name)


class _Reader:
    """Reads the entries once, builds clauses and collects errors. An exceeded limit stops the
    reading.
    """

    def __init__(self) -> None:
        self.fatal: list[FieldError] = []
        self.surprising: list[FieldError] = []
        self.expressions: list[tuple[str, Expression]] = []
        """The expressions with their paths."""
        self._clauses = 0
        self._depth = 0
        self._exhausted = False

    def entries(self, value: Any, path: str) -> Clause | None:
        """Return one clause for a list of entries, or None if none of them has a condition."""
        clauses = [clause for clause in self._list(value, path) if clause is not None]
        return AllOf(tuple(clauses)) if clauses else None

    def _any(self, value: Any, path: str) -> Clause | None:
        clauses = self._list(value, path)
        conditions = [clause for clause in clauses if clause is not None]
        return AnyOf(tuple(conditions)) if conditions and len(conditions) == len(clauses) else None

    def _list(self, value: Any, path: str) -> list[Clause | None]:
        if not isinstance(value, list | tuple):
            self._wrong(value, path, "expected a list of filters")
            return []
        clauses = []
        for index, each in enumerate(value):
            if self._exhausted:
                break
            clauses.append(self._entry(each, f"{path}[{index}]"))
        return clauses

    def _entry(self, value: Any, path: str) -> Clause | None:
        if not self._take(path):
            return None
        if not isinstance(value, Mapping):
            return self._wrong(value, path, "a filter is a mapping with one dialect")
        for name in value:
            if name not in _DIALECTS:
                return self._wrong(
                    name, path, f"there is no such dialect; use one of {', '.join(_DIALECTS)}"
                )
        found = [name for name in _DIALECTS if value.get(name) is not None]
        if len(found) > 1:
            self.fatal.append(
                FieldError(
                    "multiple dialects found, filters can have only one dialect set",
                    (path,),
                    ", ".join(found),
                )
            )
            return None
        return self._dialect(found[0], value[found[0]], f"{path}.{found[0]}") if found else None

    def _dialect(self, name: str, value: Any, path: str) -> Clause | None:
        if name == "cesql":
            return self._expression(value, path)
        if name not in _NESTING:
            return self._texts(name, value, path)
        if self._depth == DEPTH_MAX:
            return self._exhaust(path, f"filters may nest {DEPTH_MAX} levels deep")
        if value == [] or value == ():
            self.surprising.append(missing(path, details="a list of filters needs at least one"))
        self._depth += 1
        clause = (
            self._inverted(value, path)
            if name == "not"
            else self._any(value, path)
            if name == "any"
            else self.entries(value, path)
        )
        self._depth -= 1
        return clause

    def _inverted(self, value: Any, path: str) -> Clause | None:
        inner = self._entry(value, path)
        return None if inner is None else Negation(inner)

    def _expression(self, text: Any, path: str) -> Clause | None:
        if not isinstance(text, str):
            return self._wrong(text, path, "expected an expression")
        try:
            expression = compile_expression(text)
        except ParseError as error:
            return self._wrong(text, path, str(error))
        if not self._take(path, parts(expression.node) - 1):
            return None
        self.expressions.append((path, expression))
        if expression.returns not in (None, Type.BOOLEAN):
            details = (
                f"the expression gives type {expression.returns.value}, a filter needs a Boolean"
            )
            self.surprising.append(invalid(_shown(text), path, details))
        return Cesql(path, expression)

    def _texts(self, dialect: str, value: Any, path: str) -> Clause | None:
        if not isinstance(value, Mapping):
            return self._wrong(value, path, "expected a mapping from attribute name to text")
        clauses: list[Clause] = []
        for name, text in value.items():
            if not self._take(path):
                break
            if (
                not isinstance(name, str)
                or not isinstance(text, str)
                or len(text) > TEXT_LENGTH_MAX
            ):
                self._wrong(
                    text,
                    f"{path}.{_shown(name)}",
                    f"expected a text of at most {TEXT_LENGTH_MAX} characters; put it in quotes",
                )
                continue
            self._check(dialect, name, text, path)
            where = f"{path}.{name}"
            clauses.append(
                LegacyAttribute(where, name, text)
                if dialect == _LEGACY
                else Compare(where, Comparison(dialect), name, text)
            )
        return AllOf(tuple(clauses)) if clauses else None

    def _check(self, dialect: str, name: str, text: str, path: str) -> None:
        if len(name) > NAME_LENGTH_MAX or not is_attribute_name(name):
            self.surprising.append(
                invalid_key(_shown(name), f"{path}[{_shown(name)}]", ATTRIBUTE_NAME_RULE)
            )
        elif not text and dialect != _LEGACY:
            self.surprising.append(
                invalid(
                    "", f"{path}.{name}", "an empty text matches no event; leave the attribute out"
                )
            )

    def _take(self, path: str, count: int = 1) -> bool:
        """Count `count` more clauses; return False if there are too many."""
        self._clauses += count
        if self._clauses > CLAUSES_MAX:
            self._exhaust(path, f"at most {CLAUSES_MAX} clauses are taken")
        return not self._exhausted

    def _exhaust(self, path: str, rule: str) -> Clause | None:
        """Record the exceeded limit and stop the reading."""
        if not self._exhausted:
            self.fatal.append(
                invalid("too many filters", path, f"{rule}; use several subscriptions")
            )
        self._exhausted = True
        return None

    def _wrong(self, value: Any, path: str, details: str) -> Clause | None:
        """Record an error instead of building a clause."""
        self.fatal.append(invalid(_shown(value), path, details))
        return None


def _shown(value: Any) -> str:
    """Return a value short enough for a message. A value that is not a scalar is shown as its type,
    because it may be very large.
    """
    if not isinstance(value, str | int | float | bool | None):
        return type(value).__name__
    text = str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
