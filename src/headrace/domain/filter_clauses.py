"""The clauses a filter is made of: each knows how to be a predicate for the hot path, and how to
explain itself for people.

Both ways come from the same fields, so what an explanation says is what happened. Attribute values
are compared as text, whatever type they arrived in: an event must not match in binary mode and miss
in structured mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from headrace.domain.cesql import (
    Attributes,
    ErrorKind,
    EvaluationError,
    Expression,
    Problem,
    Type,
    deciding_part,
)
from headrace.domain.cesql.casts import to_string, type_of
from headrace.domain.event import Value

Predicate = Callable[[Attributes], bool]
OnError = Callable[[Problem], None]
"""Called for every evaluation of a CESQL clause that failed, or whose result was not a Boolean."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an event matches or not.

    `clause` is the path of the clause that decided: the one that failed, or the last one that had
    to pass. `wanted` is the expected value, `saw` the value of the attribute, None when the event
    does not have it. For CESQL, `wanted` is the part of the expression that decided, `saw` its
    value, `inputs` the attributes it reads; `problem` is set when the evaluation failed.
    """

    matched: bool
    clause: str
    wanted: str
    saw: Value | None = None
    problem: Problem | None = None
    inputs: tuple[tuple[str, Value | None], ...] = ()


class Clause(Protocol):
    """A condition that an event passes or not."""

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """The clause as a closure that never raises.

        When `metered`, it must be given attributes that are `Metered`, and raises `BudgetExceeded`.
        """
        ...

    def steps_max(self) -> int:
        """The most steps of an evaluation (`headrace.domain.cesql.budget`)."""
        ...

    def explain(self, attributes: Attributes) -> Explanation:
        """The clause with its reasons."""
        ...


class Comparison(StrEnum):
    """How an attribute is compared with a text; the values are names of dialects."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


_ALIASES = {"dataschema": "schemaurl", "schemaurl": "dataschema"}


def _never(attributes: Attributes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Compare:
    """One attribute against one text. An empty text never fits: the Subscriptions API does not
    allow it.
    """

    path: str
    comparison: Comparison
    name: str
    text: str

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """One look-up and one comparison; the text of a value that is no string is made only when
        needed.
        """
        if not self.text:
            return _never
        match self.comparison:
            case Comparison.EXACT:
                return _equal(self.name, self.text)
            case Comparison.PREFIX:
                return _prefixed(self.name, self.text)
            case Comparison.SUFFIX:
                return _suffixed(self.name, self.text)

    def steps_max(self) -> int:
        """None: one look-up and one comparison at C speed."""
        return 0

    def explain(self, attributes: Attributes) -> Explanation:
        """Names the attribute, what it should be and what it is."""
        matched = self.predicate(lambda problem: None)(attributes)
        return Explanation(
            matched, self.path, f"{self.comparison} {self.text!r}", attributes.get(self.name)
        )


def _equal(name: str, text: str) -> Predicate:
    def matches(attributes: Attributes) -> bool:
        value = attributes.get(name)
        return value == text or (
            value.__class__ is not str and value is not None and to_string(value) == text
        )

    return matches


def _prefixed(name: str, text: str) -> Predicate:
    def matches(attributes: Attributes) -> bool:
        value = attributes.get(name)
        return value is not None and to_string(value).startswith(text)

    return matches


def _suffixed(name: str, text: str) -> Predicate:
    def matches(attributes: Attributes) -> bool:
        value = attributes.get(name)
        return value is not None and to_string(value).endswith(text)

    return matches


@dataclass(frozen=True, slots=True)
class LegacyAttribute:
    """One attribute of `filter.attributes`: equal to the text, or for an empty text there and not
    empty.

    A name of CloudEvents 0.3 and its successor stand for each other, and `datamediatype` is the
    content type without parameters, as in Knative. Unlike there, an absent `time` is absent.
    """

    path: str
    name: str
    text: str

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """As for `exact` wherever it means the same."""
        if self.text and self.name not in _ALIASES and self.name != "datamediatype":
            return _equal(self.name, self.text)
        return lambda attributes: self._fits(self._value(attributes))

    def steps_max(self) -> int:
        """None: one look-up and one comparison at C speed."""
        return 0

    def explain(self, attributes: Attributes) -> Explanation:
        """Names the attribute, what it should be and what it is."""
        value = self._value(attributes)
        return Explanation(
            self._fits(value),
            self.path,
            f"exact {self.text!r}" if self.text else "any value",
            value,
        )

    def _fits(self, value: Value | None) -> bool:
        text = "" if value is None else to_string(value)
        return text != "" and self.text in ("", text)

    def _value(self, attributes: Attributes) -> Value | None:
        if self.name == "datamediatype":
            content_type = attributes.get("datacontenttype")
            return (
                None if content_type is None else to_string(content_type).partition(";")[0].strip()
            )
        value = attributes.get(self.name)
        return attributes.get(_ALIASES.get(self.name, self.name)) if value is None else value


@dataclass(frozen=True, slots=True)
class Cesql:
    """An expression; only TRUE without an error passes (CESQL 1.0, 1.2)."""

    path: str
    expression: Expression

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Evaluates; a result that is no Boolean counts as a generic error."""
        evaluate = self.expression.metered() if metered else self.expression.evaluate_or_raise
        boolean = self.expression.returns is Type.BOOLEAN

        def passes(attributes: Attributes) -> bool:
            try:
                value = evaluate(attributes)
            except EvaluationError as error:
                on_error(error.problem)
                return False
            if boolean or isinstance(value, bool):
                return value is True
            on_error(_not_boolean(value))
            return False

        return passes

    def steps_max(self) -> int:
        """Those of the expression."""
        return self.expression.steps_max

    def explain(self, attributes: Attributes) -> Explanation:
        """Shows the part of the expression that settled it, the value of that part, and every
        attribute it may have read.
        """
        value, problem = self.expression.evaluate(attributes)
        if problem is None and not isinstance(value, bool):
            problem = _not_boolean(value)
        part = deciding_part(self.expression, attributes)
        inputs = tuple((name, attributes.get(name)) for name in part.attribute_names)
        return Explanation(
            problem is None and value is True,
            self.path,
            part.text,
            part.evaluate(attributes).value,
            problem,
            inputs,
        )


def _not_boolean(value: Value) -> Problem:
    return Problem(
        ErrorKind.GENERIC, f"the result has type {type_of(value).value}, a filter needs a Boolean"
    )


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of several clauses, at least one."""

    clauses: tuple[Clause, ...]

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Stops at the first that fails."""
        predicates = [clause.predicate(on_error, metered=metered) for clause in self.clauses]
        match predicates:
            case [only]:
                return only
            case [first, second]:
                return lambda attributes: first(attributes) and second(attributes)

        def matches(attributes: Attributes) -> bool:
            for predicate in predicates:  # noqa: SIM110 - all() would build a generator for every event
                if not predicate(attributes):
                    return False
            return True

        return matches

    def steps_max(self) -> int:
        """Those of all clauses."""
        return sum(clause.steps_max() for clause in self.clauses)

    def explain(self, attributes: Attributes) -> Explanation:
        """The first that fails, else the last."""
        explanation = self.clauses[0].explain(attributes)
        for clause in self.clauses[1:]:
            if not explanation.matched:
                break
            explanation = clause.explain(attributes)
        return explanation


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Any of several clauses, at least one."""

    clauses: tuple[Clause, ...]

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Stops at the first that passes."""
        predicates = [clause.predicate(on_error, metered=metered) for clause in self.clauses]
        match predicates:
            case [only]:
                return only
            case [first, second]:
                return lambda attributes: first(attributes) or second(attributes)

        def matches(attributes: Attributes) -> bool:
            for predicate in predicates:  # noqa: SIM110 - any() would build a generator for every event
                if predicate(attributes):
                    return True
            return False

        return matches

    def steps_max(self) -> int:
        """Those of all clauses."""
        return sum(clause.steps_max() for clause in self.clauses)

    def explain(self, attributes: Attributes) -> Explanation:
        """The first that passes, else the last."""
        explanation = self.clauses[0].explain(attributes)
        for clause in self.clauses[1:]:
            if explanation.matched:
                break
            explanation = clause.explain(attributes)
        return explanation


@dataclass(frozen=True, slots=True)
class Negation:
    """The opposite of a clause. A clause that failed by an error failed, so its opposite passes, as
    in Knative.
    """

    clause: Clause

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Negates."""
        inner = self.clause.predicate(on_error, metered=metered)
        return lambda attributes: not inner(attributes)

    def steps_max(self) -> int:
        """Those of the clause."""
        return self.clause.steps_max()

    def explain(self, attributes: Attributes) -> Explanation:
        """The inner explanation with the outcome turned round; its path shows the `not`."""
        inner = self.clause.explain(attributes)
        return replace(inner, matched=not inner.matched)
