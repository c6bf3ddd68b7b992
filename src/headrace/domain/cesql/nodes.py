"""The tree of an expression: small frozen values, without parentheses and without positions, so
that equal trees mean the same.

A chain of AND, OR and XOR is one node however long it is: five hundred alternatives are then one
level deep, not five hundred.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.event import Value


class Operator(StrEnum):
    """Operators with two operands and one type of result."""

    MULTIPLY = "*"
    DIVIDE = "/"
    REMAINDER = "%"
    ADD = "+"
    SUBTRACT = "-"
    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


class Connective(StrEnum):
    """Operators of Booleans; all three have one precedence and are taken from left to right."""

    AND = "AND"
    OR = "OR"
    XOR = "XOR"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. `value` of type int lies within 32 bits."""

    value: Value


@dataclass(frozen=True, slots=True)
class Attribute:
    """The value of a context attribute; `name` in lower case."""

    name: str


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether the event has the attribute."""

    name: str


@dataclass(frozen=True, slots=True)
class Not:
    """Boolean negation."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Negate:
    """The number with the other sign."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic or comparison."""

    operator: Operator
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Logic:
    """`first`, then each connective with its operand, from left to right."""

    first: "Node"
    rest: tuple[tuple[Connective, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Like:
    """A match against a pattern; `pattern` still has its LIKE escapes."""

    operand: "Node"
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class In:
    """Membership in a list of expressions, at least one."""

    operand: "Node"
    members: tuple["Node", ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A function; `name` in upper case. Whether it exists is found out when it is compiled."""

    name: str
    arguments: tuple["Node", ...]


Node = Literal | Attribute | Exists | Not | Negate | Binary | Logic | Like | In | Call
"""Any part of an expression."""


def children(node: Node) -> tuple[Node, ...]:
    """The operands of a node, in the order of the text."""
    match node:
        case Not(operand) | Negate(operand) | Like(operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Logic(first, rest):
            return (first, *(operand for _, operand in rest))
        case In(operand, members):
            return (operand, *members)
        case Call(_, arguments):
            return arguments
        case _:
            return ()


def depth(node: Node) -> int:
    """Levels of the tree, 1 for a leaf. Walks with a stack of its own: this is what guards the
    recursion of others.
    """
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        at, level = waiting.pop()
        deepest = max(deepest, level)
        waiting.extend((child, level + 1) for child in children(at))
    return deepest


def parts(node: Node) -> int:
    """How many nodes the tree has: a bound on the work of an evaluation."""
    count, waiting = 0, [node]
    while waiting:
        count += 1
        waiting.extend(children(waiting.pop()))
    return count


def calls(node: Node) -> Iterator[Call]:
    """Every call of a function, in the order of the text."""
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, Call):
            yield at
        waiting.extend(reversed(children(at)))


def attribute_names(node: Node) -> Iterator[str]:
    """Every attribute the expression may read or ask for, in the order of the text, repeats
    included.
    """
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, Attribute | Exists):
            yield at.name
        waiting.extend(reversed(children(at)))
