"""The clauses of a filter. Each can be compiled to a predicate for the hot path and can explain its
result to users.

Both use the same fields, so an explanation always matches the result. Attribute values are compared
as text, regardless of their type: an event must not match in binary mode and fail to match in
structured mode.
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
    """Why an event matches or does not match.

    `clause` is the path of the clause that decided: the one that failed, or the last one that had
    to pass. `wanted` is the expected value. `saw` is the value of the attribute, None if the event
    does not have it. For CESQL, `wanted` is the part of the expression that decided, `saw` is its
    value, and `inputs` are the attributes it reads. `problem` is set if the evaluation failed.
    """

    matched: bool
    clause: str
    wanted: str
    saw: Value | None = None
    problem: Problem | None = None
    inputs: tuple[tuple[str, Value | None], ...] = ()


class Clause(Protocol):
    """A condition that an event passes or fails."""

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return the clause as a function that never raises.

        If `metered`, the function must be called with `Metered` attributes, and raises
        `BudgetExceeded`.
        """
        ...

    def steps_max(self) -> int:
        """Return the largest number of steps that an evaluation can take
        (`headrace.domain.cesql.budget`).
        """
        ...

    def explain(self, attributes: Attributes) -> Explanation:
        """Evaluate the clause and return the reasons for its result."""
        ...


class Comparison(StrEnum):
    """How an attribute is compared with a text. The values are names of dialects."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


_ALIASES = {"dataschema": "schemaurl", "schemaurl": "dataschema"}


def _never(attributes: Attributes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares one attribute with one text. An empty text never matches, because the Subscriptions
    API does not allow it.
    """

    path: str
    comparison: Comparison
    name: str
    text: str

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return a predicate with one lookup and one comparison. A value that is not a string is
        converted only when necessary.
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
        """Return 0: one lookup and one comparison at C speed."""
        return 0

    def explain(self, attributes: Attributes) -> Explanation:
        """Report the attribute's expected and actual value."""
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
    """One attribute of `filter.attributes`. It must equal the text or, if the text is empty, be
    present and not empty.

    An attribute name of CloudEvents 0.3 and its successor are interchangeable, and `datamediatype`
    is the content type without parameters, as in Knative. Unlike in Knative, an absent `time`
    counts as absent.
    """

    path: str
    name: str
    text: str

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return the predicate of `exact` where that is equivalent, else a slower one."""
        exact = self.as_exact()
        if exact is not None:
            return exact.predicate(on_error)
        return lambda attributes: self._fits(self._value(attributes))

    def as_exact(self) -> Compare | None:
        """Return the equivalent clause of `exact`, or None if there is none."""
        if not self.text or self.name in _ALIASES or self.name == "datamediatype":
            return None
        return Compare(self.path, Comparison.EXACT, self.name, self.text)

    def steps_max(self) -> int:
        """Return 0: one lookup and one comparison at C speed."""
        return 0

    def explain(self, attributes: Attributes) -> Explanation:
        """Report the attribute's expected and actual value."""
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
    """A CESQL expression. Only TRUE without an error passes (CESQL 1.0, 1.2)."""

    path: str
    expression: Expression

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return a predicate that evaluates the expression. A result that is not a Boolean counts
        as a generic error.
        """
        evaluate = self.expression.metered() if metered else self.expression.evaluate_or_raise
        boolean, text = self.expression.returns is Type.BOOLEAN, self.expression.text

        def passes(attributes: Attributes) -> bool:
            try:
                value = evaluate(attributes)
            except EvaluationError as error:
                on_error(error.problem.within(text))
                return False
            if boolean or isinstance(value, bool):
                return value is True
            on_error(_not_boolean(value).within(text))
            return False

        return passes

    def steps_max(self) -> int:
        """Return the steps of the expression."""
        return self.expression.steps_max

    def explain(self, attributes: Attributes) -> Explanation:
        """Report the part of the expression that decided, its value, and every attribute that it
        may have read.
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
    """Passes if all of its clauses pass. There is at least one."""

    clauses: tuple[Clause, ...]

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return a predicate that stops at the first clause that fails."""
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
        """Return the sum over all clauses."""
        return sum(clause.steps_max() for clause in self.clauses)

    def explain(self, attributes: Attributes) -> Explanation:
        """Explain the first clause that fails, else the last one."""
        explanation = self.clauses[0].explain(attributes)
        for clause in self.clauses[1:]:
            if not explanation.matched:
                break
            explanation = clause.explain(attributes)
        return explanation


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Passes if any of its clauses passes. There is at least one."""

    clauses: tuple[Clause, ...]

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return a predicate that stops at the first clause that passes."""
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
        """Return the sum over all clauses."""
        return sum(clause.steps_max() for clause in self.clauses)

    def explain(self, attributes: Attributes) -> Explanation:
        """Explain the first clause that passes, else the last one."""
        explanation = self.clauses[0].explain(attributes)
        for clause in self.clauses[1:]:
            if explanation.matched:
                break
            explanation = clause.explain(attributes)
        return explanation


@dataclass(frozen=True, slots=True)
class Negation:
    """The opposite of a clause. A clause that failed because of an error has failed, so its
    opposite passes, as in Knative.
    """

    clause: Clause

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return the negated predicate."""
        inner = self.clause.predicate(on_error, metered=metered)
        return lambda attributes: not inner(attributes)

    def steps_max(self) -> int:
        """Return the steps of the clause."""
        return self.clause.steps_max()

    def explain(self, attributes: Attributes) -> Explanation:
        """Return the explanation of the clause with the result inverted; its path contains the
        `not`.
        """
        inner = self.clause.explain(attributes)
        return replace(inner, matched=not inner.matched)
