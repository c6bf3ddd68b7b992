"""What a filter does with events of which only some attributes are known: all of them pass, none
does, or it depends on an attribute that is not known.

A description of an event type fixes `type`, perhaps `source`, and leaves the rest to each event.
The answer is never wrong, but may be less exact than possible: of two conditions on the same
unknown attribute that exclude each other, each is judged alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag, StrEnum

from headrace.domain.cesql import BUILT_IN, Expression
from headrace.domain.cesql.nodes import Connective, Exists, Logic, Node, Not, attribute_names
from headrace.domain.event import Value
from headrace.domain.filter_clauses import (
    AllOf,
    AnyOf,
    Cesql,
    Clause,
    Compare,
    LegacyAttribute,
    Negation,
)
from headrace.domain.filters import Filter

Known = Mapping[str, Value]
"""Attributes that every one of the events has, with their values."""
_ALWAYS_PRESENT = frozenset({"specversion", "id", "source", "type"})


class Verdict(StrEnum):
    """Whether events pass a filter."""

    YES = "Yes"
    MAYBE = "Maybe"
    NO = "No"


@dataclass(frozen=True, slots=True)
class Possibility:
    """A verdict; for `MAYBE`, the names of the unknown attributes that decide, sorted."""

    verdict: Verdict
    depends_on: tuple[str, ...] = ()


_YES, _NO = Possibility(Verdict.YES), Possibility(Verdict.NO)


def possibility(filter: Filter, known: Known) -> Possibility:
    """Return whether events with these attributes, and any others, pass the filter."""
    root = filter.root
    if root is None:
        return _YES
    found = _of_clause(root, known)
    if found is _YES and filter.budgeted:
        # Whether the evaluation exceeds its budget depends on the lengths of the attributes.
        unknown = [name for name in _read_by(root) if name not in known]
        return _maybe(unknown) if unknown else _exactly(filter.matches(known))
    return found


def _maybe(names: Iterable[str]) -> Possibility:
    return Possibility(Verdict.MAYBE, tuple(sorted(set(names))))


def _exactly(passes: bool) -> Possibility:
    return _YES if passes else _NO


def _of_clause(clause: Clause, known: Known) -> Possibility:
    match clause:
        case AllOf(clauses):
            return _all([_of_clause(each, known) for each in clauses])
        case AnyOf(clauses):
            return _inverse(_all([_inverse(_of_clause(each, known)) for each in clauses]))
        case Negation(inner):
            return _inverse(_of_clause(inner, known))
        case Compare(name=name, text=text):
            if not text:
                return _NO
            return _exactly(clause.explain(known).matched) if name in known else _maybe([name])
        case LegacyAttribute():
            return _of_legacy(clause, known)
        case Cesql(expression=expression):
            return _of_expression(clause, expression, known)
        case _:
            raise AssertionError(f"unknown clause {clause!r}")


def _all(each: list[Possibility]) -> Possibility:
    if any(one.verdict is Verdict.NO for one in each):
        return _NO
    names = [name for one in each for name in one.depends_on]
    return _maybe(names) if any(one.verdict is Verdict.MAYBE for one in each) else _YES


def _inverse(found: Possibility) -> Possibility:
    match found.verdict:
        case Verdict.YES:
            return _NO
        case Verdict.NO:
            return _YES
        case Verdict.MAYBE:
            return found


def _of_legacy(clause: LegacyAttribute, known: Known) -> Possibility:
    reads = "datacontenttype" if clause.name == "datamediatype" else clause.name
    if reads in known:
        return _exactly(clause.explain(known).matched)
    if not clause.text and reads in _ALWAYS_PRESENT:
        return _YES
    return _maybe([reads])


def _read_by(clause: Clause) -> list[str]:
    """The attributes that a clause reads."""
    match clause:
        case AllOf(clauses) | AnyOf(clauses):
            return [name for each in clauses for name in _read_by(each)]
        case Negation(inner):
            return _read_by(inner)
        case Compare(name=name) | LegacyAttribute(name=name):
            return [name]
        case Cesql(expression=expression):
            return list(expression.attribute_names)
        case _:
            raise AssertionError(f"unknown clause {clause!r}")


class _Outcome(IntFlag):
    """What an evaluation may give: a set of these."""

    TRUE = 1
    FALSE = 2
    ERROR = 4


_ANY = _Outcome.TRUE | _Outcome.FALSE | _Outcome.ERROR


def _of_expression(clause: Cesql, expression: Expression, known: Known) -> Possibility:
    if all(name in known for name in expression.attribute_names):
        return _exactly(clause.explain(known).matched)
    undecided: set[str] = set()
    found = _outcomes(expression.node, known, undecided)
    if not found & _Outcome.TRUE:
        return _NO
    return _YES if found == _Outcome.TRUE else _maybe(undecided)


def _outcomes(node: Node, known: Known, undecided: set[str]) -> _Outcome:
    """Return what a part, as a Boolean, may evaluate to; add the attributes that this depends on to
    `undecided`.
    """
    match node:
        case Exists(name) if name in _ALWAYS_PRESENT or name in known:
            return _Outcome.TRUE
        case Exists(name):
            undecided.add(name)
            return _Outcome.TRUE | _Outcome.FALSE
        case Not(operand):
            return _swapped(_outcomes(operand, known, undecided))
        case Logic(first, rest):
            found = _outcomes(first, known, undecided)
            for connective, operand in rest:
                found = _connected(found, connective, operand, known, undecided)
            return found
    unknown = {name for name in attribute_names(node) if name not in known}
    if unknown:
        undecided |= unknown
        return _ANY
    # A chain with one operand casts it to Boolean, as a longer one does.
    value, problem = Expression("", Logic(node, ()), BUILT_IN).evaluate(known)
    if problem is not None:
        return _Outcome.ERROR
    return _Outcome.TRUE if value is True else _Outcome.FALSE


def _connected(
    before: _Outcome, connective: Connective, operand: Node, known: Known, undecided: set[str]
) -> _Outcome:
    """Return what `before`, the connective and the operand give; AND and OR do not evaluate an
    operand that cannot change the result.
    """
    decided = {Connective.AND: _Outcome.FALSE, Connective.OR: _Outcome.TRUE}.get(connective)
    result = before & _Outcome.ERROR
    if decided is None:
        other = _outcomes(operand, known, undecided)
        result |= other & _Outcome.ERROR
        for outcome, swaps in ((_Outcome.FALSE, False), (_Outcome.TRUE, True)):
            if before & outcome:
                result |= _swapped(other) if swaps else other
        return result
    result |= before & decided
    goes_further = before & ~_Outcome.ERROR & ~decided
    return result | _outcomes(operand, known, undecided) if goes_further else result


def _swapped(found: _Outcome) -> _Outcome:
    result = found & _Outcome.ERROR
    if found & _Outcome.TRUE:
        result |= _Outcome.FALSE
    if found & _Outcome.FALSE:
        result |= _Outcome.TRUE
    return result
