"""Render a tree as text with the fewest parentheses: `parse(render(node)) == node`."""

from headrace.domain.cesql.nodes import (
    Attribute,
    Binary,
    Call,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Node,
    Not,
)
from headrace.domain.cesql.parser import COMPARISON, LOGIC, MEMBERSHIP, OPERATORS, PATTERN, PREFIX

_ATOM = PREFIX + 1


def render(node: Node) -> str:
    """Return the text of a tree.

    Raises ValueError for a string that no literal can express, such as one that ends in an unpaired
    backslash.
    """
    match node:
        case Literal(value):
            return _literal(value)
        case Attribute(name):
            return name
        case Exists(name):
            return f"EXISTS {name}"
        case Not(operand):
            return f"NOT {_within(operand, PREFIX)}"
        case Negate(operand):
            return f"-{_negated(operand)}"
        case Binary(operator, left, right):
            binds, _ = OPERATORS[operator]
            return f"{_within(left, binds)} {operator} {_within(right, binds + 1)}"
        case Logic(first, rest):
            operands = [
                f"{connective} {_within(operand, COMPARISON)}" for connective, operand in rest
            ]
            return " ".join([_within(first, COMPARISON), *operands])
        case Like(operand, pattern, negated):
            like = "NOT LIKE" if negated else "LIKE"
            return f"{_within(operand, PATTERN)} {like} {_literal(pattern)}"
        case In(operand, members, negated):
            return (
                f"{_within(operand, MEMBERSHIP)} {'NOT IN' if negated else 'IN'}"
                f" ({', '.join(map(render, members))})"
            )
        case Call(name, arguments):
            return f"{name}({', '.join(map(render, arguments))})"


def _holds(node: Node) -> int:
    """Return how tightly the outermost operator of a node binds."""
    match node:
        case Logic():
            return LOGIC
        case Binary(operator):
            return OPERATORS[operator][0]
        case In():
            return MEMBERSHIP
        case Like():
            return PATTERN
        case Not() | Negate():
            return PREFIX
        case _:
            return _ATOM


def _within(node: Node, binds: int) -> str:
    return render(node) if _holds(node) >= binds else f"({render(node)})"


def _negated(operand: Node) -> str:
    """Return the operand of a minus sign.

    A number gets parentheses, because a minus directly before digits is read as the number's own
    sign.
    """
    if isinstance(operand, Literal) and type(operand.value) is int:
        return f"({render(operand)})"
    return _within(operand, PREFIX)


def _literal(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    for quote in ("'", '"'):
        if (quoted := _quoted(value, quote)) is not None:
            return quoted
    raise ValueError(
        "no literal can spell this string: a backslash at its end, or both quotes after backslashes"
    )


def _quoted(text: str, quote: str) -> str | None:
    """Return the text in these quotes, or None if they cannot express it.

    A backslash always takes the next character with it.
    """
    parts, at = [quote], 0
    while at < len(text):
        if text[at] == "\\":
            if at + 1 == len(text) or text[at + 1] == quote:
                return None
            parts.append(text[at : at + 2])
            at += 2
            continue
        parts.append(f"\\{quote}" if text[at] == quote else text[at])
        at += 1
    return "".join([*parts, quote])
