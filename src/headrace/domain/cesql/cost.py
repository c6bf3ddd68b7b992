"""The worst-case cost of an expression, computed from its tree before there is an event."""

from headrace.domain.attributes import VALUE_BYTES_MAX
from headrace.domain.cesql.casts import to_string
from headrace.domain.cesql.functions import steps_at_worst
from headrace.domain.cesql.like import Patterns
from headrace.domain.cesql.nodes import Attribute, Call, Like, Literal, Node, children

_NUMBER_LENGTH = 11
"""Characters of the longest integer or Boolean as text."""


def steps_at_worst_of(node: Node, patterns: Patterns) -> int:
    """Return the most steps that an evaluation of this tree can take.

    Steps are those of `headrace.domain.cesql.budget`. The parser limits the depth of the recursion.
    """
    return _worst(node, patterns)[0]


def _worst(node: Node, patterns: Patterns) -> tuple[int, int]:
    """Return the most steps, and the greatest length of the value as text."""
    match node:
        case Literal(value):
            return 0, len(to_string(value))
        case Attribute():
            return 0, VALUE_BYTES_MAX
        case Like(operand, pattern):
            steps, length = _worst(operand, patterns)
            return steps + patterns[pattern].steps(length), _NUMBER_LENGTH
        case Call(name, arguments):
            found = [_worst(argument, patterns) for argument in arguments]
            steps, length = steps_at_worst(name, [length for _, length in found])
            return steps + sum(before for before, _ in found), length
        case _:
            return sum(_worst(child, patterns)[0] for child in children(node)), _NUMBER_LENGTH
