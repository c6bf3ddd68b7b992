"""Parsing of CESQL text to a tree: precedence, associativity, literals, limits and error
positions.
"""

import pytest

from headrace.domain.cesql import (
    DEPTH_MAX,
    EXPRESSION_LENGTH_MAX,
    NODES_MAX,
    ErrorKind,
    ParseError,
    compile_expression,
    parse,
    render,
)
from headrace.domain.cesql.nodes import (
    Attribute,
    Binary,
    Call,
    Connective,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Node,
    Not,
    Operator,
)

A, B, C = Attribute("a"), Attribute("b"), Attribute("c")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a AND b OR c", Logic(A, ((Connective.AND, B), (Connective.OR, C)))),
        ("a OR (b AND c)", Logic(A, ((Connective.OR, Logic(B, ((Connective.AND, C),))),))),
        ("NOT a AND b", Logic(Not(A), ((Connective.AND, B),))),
        ("NOT a = b", Binary(Operator.EQUAL, Not(A), B)),
        ("NOT a LIKE 'x'", Like(Not(A), "x")),
        ("-a IN (b, c)", In(Negate(A), (B, C))),
        ("NOT -a", Not(Negate(A))),
        ("a - b - c", Binary(Operator.SUBTRACT, Binary(Operator.SUBTRACT, A, B), C)),
        ("a + b * c", Binary(Operator.ADD, A, Binary(Operator.MULTIPLY, B, C))),
        ("a * b + c", Binary(Operator.ADD, Binary(Operator.MULTIPLY, A, B), C)),
        ("a + b < c", Binary(Operator.LESS, Binary(Operator.ADD, A, B), C)),
        ("a <> b", Binary(Operator.UNEQUAL, A, B)),
        ("a * b LIKE 'x'", Binary(Operator.MULTIPLY, A, Like(B, "x"))),
        ("a NOT LIKE 'x' AND b", Logic(Like(A, "x", negated=True), ((Connective.AND, B),))),
        ("a NOT IN (b) = c", Binary(Operator.EQUAL, In(A, (B,), negated=True), C)),
        ("EXISTS a AND b", Logic(Exists("a"), ((Connective.AND, B),))),
        ("concat_ws(a, 1)", Call("CONCAT_WS", (A, Literal(1)))),
        ("left = 'x'", Binary(Operator.EQUAL, Attribute("left"), Literal("x"))),
        ("-5", Literal(-5)),
        ("-(5)", Negate(Literal(5))),
        ("--5", Negate(Literal(-5))),
        ("a\t\r\n=\n1", Binary(Operator.EQUAL, A, Literal(1))),
    ],
)
def test_binds_as_the_specification_says(text: str, node: Node) -> None:
    """The tree follows the precedence of CESQL 3.6; operators of equal precedence are
    left-associative.
    """
    assert node == parse(text)


def test_a_long_chain_is_one_level() -> None:
    """Hundreds of alternatives count as one level, for both the parser and the evaluation."""
    expression = compile_expression(" OR ".join(f"type = 't{number}'" for number in range(200)))
    assert (True, None) == expression.evaluate({"type": "t199"})


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "expected a value"),
        ("a = ", 4, "expected a value, found the end of the expression"),
        ("a LIKE b", 7, "the pattern of LIKE must be a string in quotes"),
        ("a = 'b", 4, "the string is not closed"),
        ("a b", 2, "expected an operator or the end"),
        ("a == 'b'", 3, "found '='; equality is a single ="),
        ("a && b", 2, "'&' has no meaning here; write AND"),
        ("a || b", 2, "'|' has no meaning here; write OR"),
        ("a = b.c", 5, "'.' has no meaning here; text needs quotes"),
        ("a = b#", 5, "'#' has no meaning here"),
        ("a IN ()", 6, "expected a value"),
        ("a = 99999999999", 4, "does not fit 32 bits"),
        ("a & b", 2, "'&' has no meaning"),
        ("AND a", 0, "expected a value before AND"),
        ("my_attribute = 1", 0, "cannot name an attribute"),
        ("ä = 1", 0, "has no meaning"),
    ],
)
def test_an_error_names_its_place(text: str, position: int, words: str) -> None:
    """A parse error contains its position and what was expected there."""
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert position == caught.value.position
    assert words in str(caught.value)
    assert ErrorKind.PARSE is caught.value.problem.kind


@pytest.mark.parametrize(
    "text",
    [
        "'" + "a" * EXPRESSION_LENGTH_MAX + "'",
        "(" * (DEPTH_MAX + 1) + "1" + ")" * (DEPTH_MAX + 1),
        "(" * 4_000,
        "NOT " * 2_000 + "TRUE",
        "ABS(" * 2_000,
        "1" + "+1" * DEPTH_MAX,
        "1 IN (" + ",".join("1" for _ in range(NODES_MAX)) + ")",
        "a" + " OR a" * NODES_MAX,
        "0" * 5_000 + "1" + "9" * 3_000,
    ],
    ids=lambda text: text[:12],
)
def test_bounds_are_parse_errors(text: str) -> None:
    """Length, depth, number of parts and digits are limited, without a recursion error or a long
    computation.
    """
    with pytest.raises(ParseError):
        parse(text)


def test_what_is_within_the_bounds_works() -> None:
    """An expression of the maximum depth can be parsed, printed and evaluated."""
    text = "(" * (DEPTH_MAX - 1) + "1" + ")" * (DEPTH_MAX - 1)
    assert (1, None) == compile_expression(text).evaluate({})
    deep = "NOT " * (DEPTH_MAX - 1) + "TRUE"
    assert deep == render(parse(deep))
    assert (False, None) == compile_expression(deep).evaluate({})


def test_no_literal_spells_a_lone_backslash() -> None:
    """A tree that is not made by the parser may contain a string that CESQL cannot express;
    printing it raises an error.
    """
    with pytest.raises(ValueError, match="backslash"):
        render(Literal("\\"))
