"""The tree of an expression, made of small immutable values.

The tree has no parentheses and no positions, so equal trees have the same meaning. A chain of AND,
OR and XOR is one node of any length: five hundred alternatives are one level deep, not five
hundred.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.event import Value


class Operator(StrEnum):
    """Operators with two operands and a fixed type of result."""

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
    """Boolean operators. All have the same precedence and are evaluated from left to right."""

    AND = "AND"
    OR = "OR"
    XOR = "XOR"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. A `value` of type int fits 32 bits."""

    value: Value


@dataclass(frozen=True, slots=True)
class Attribute:
    """The value of a context attribute; `name` is in lower case."""

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
    """Arithmetic negation."""

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
    """Membership in a list of at least one expression."""

    operand: "Node"
    members: tuple["Node", ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function; `name` is in upper case.

    Whether the function exists is determined when the expression is compiled.
    """

    name: str
    arguments: tuple["Node", ...]


Node = Literal | Attribute | Exists | Not | Negate | Binary | Logic | Like | In | Call
"""Any part of an expression."""


def children(node: Node) -> tuple[Node, ...]:
    """Return the operands of a node, in the order of the text."""
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
    """Return the number of levels of the tree, 1 for a leaf.

    It is not recursive, because it limits the depth to which other functions recurse.
    """
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        at, level = waiting.pop()
        deepest = max(deepest, level)
        waiting.extend((child, level + 1) for child in children(at))
    return deepest


def parts(node: Node) -> int:
    """Return the number of nodes of the tree, which bounds the work of an evaluation."""
    count, waiting = 0, [node]
    while waiting:
        count += 1
        waiting.extend(children(waiting.pop()))
    return count


def calls(node: Node) -> Iterator[Call]:
    """Yield every call of a function, in the order of the text."""
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, Call):
            yield at
        waiting.extend(reversed(children(at)))


def attribute_names(node: Node) -> Iterator[str]:
    """Yield every attribute that the expression may read or test, in the order of the text.

    Repeated names are included.
    """
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, Attribute | Exists):
            yield at.name
        waiting.extend(reversed(children(at)))
