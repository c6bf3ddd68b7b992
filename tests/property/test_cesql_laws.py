"""Laws of CESQL: texts and trees agree, every text gives a value or a known error, LIKE follows its
definition.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.cesql import (
    ErrorKind,
    ParseError,
    compile_expression,
    deciding_part,
    parse,
    render,
)
from headrace.domain.cesql.lexer import KEYWORDS
from headrace.domain.cesql.like import Pattern
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

names = st.text("abcdefghij0123456789", min_size=1, max_size=8).filter(
    lambda name: not name.isdigit() and name.upper() not in KEYWORDS
)
integers = st.integers(-(2**31), 2**31 - 1)
# Strings without a backslash: not all strings with one can be written.
strings = st.text(st.characters(exclude_characters="\\"), max_size=8)
leaves = st.one_of(
    st.builds(Literal, st.one_of(st.booleans(), integers, strings)),
    st.builds(Attribute, names),
    st.builds(Exists, names),
    st.builds(Call, st.sampled_from(["CONCAT", "NOPE"]), st.just(())),
)


def _larger(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(nodes, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Not, nodes),
        st.builds(Negate, nodes),
        st.builds(Binary, st.sampled_from(Operator), nodes, nodes),
        st.builds(
            Logic,
            nodes,
            st.lists(st.tuples(st.sampled_from(Connective), nodes), min_size=1, max_size=3).map(
                tuple
            ),
        ),
        st.builds(Like, nodes, strings, st.booleans()),
        st.builds(In, nodes, some, st.booleans()),
        st.builds(
            Call,
            st.sampled_from(
                [
                    "CONCAT",
                    "CONCAT_WS",
                    "LEFT",
                    "SUBSTRING",
                    "ABS",
                    "INT",
                    "BOOL",
                    "UPPER",
                    "IS_INT",
                ]
            ),
            some,
        ),
    )


nodes: st.SearchStrategy[Node] = st.recursive(leaves, _larger, max_leaves=25)
attributes = st.dictionaries(
    names, st.one_of(st.text(max_size=8), integers, st.booleans()), max_size=5
)
soup = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *KEYWORDS,
                "(",
                ")",
                ",",
                "=",
                "!=",
                "<>",
                "<",
                ">=",
                "-",
                "+",
                "*",
                "/",
                "%",
                "'",
                '"',
                "\\",
                " ",
                "a",
                "ABS(",
                "1",
                "0",
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=30,
).map(" ".join)


@given(nodes)
def test_printing_and_parsing_are_inverse(node: Node) -> None:
    """A tree printed and parsed is the same tree."""
    assert node == parse(render(node))


@given(st.one_of(st.text(max_size=60), soup))
def test_what_was_parsed_can_be_printed(text: str) -> None:
    """Any text that parses can be printed, including backslashes, to a text with the same tree."""
    try:
        node = parse(text)
    except ParseError as error:
        assert 0 <= error.position <= len(text)
        return
    assert node == parse(render(node))


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), soup, nodes.map(render)), attributes)
def test_every_text_gives_a_value_or_a_known_error(
    text: str, event: dict[str, str | int | bool]
) -> None:
    """Only a parse error is raised, values have one of three types, integers 32 bits, and the
    optimized evaluation agrees.
    """
    try:
        expression = compile_expression(text)
    except ParseError:
        return
    value, problem = expression.evaluate(event)
    assert isinstance(value, str | int)
    assert isinstance(value, str | bool) or -(2**31) <= value < 2**31
    assert problem is None or problem.kind in set(ErrorKind) - {ErrorKind.PARSE}
    assert (value, problem) == expression.evaluate(event)
    assert deciding_part(expression, event).text


@given(st.lists(st.tuples(st.sampled_from(Connective), st.booleans()), max_size=6), st.booleans())
def test_connectives_are_left_associative(rest: list[tuple[Connective, bool]], first: bool) -> None:
    """A chain of AND, OR and XOR without parentheses equals the same chain with parentheses from
    the left.
    """
    expected, text = first, str(first)
    for connective, operand in rest:
        text += f" {connective} {operand}"
        match connective:
            case Connective.AND:
                expected = expected and operand
            case Connective.OR:
                expected = expected or operand
            case Connective.XOR:
                expected = expected != operand
    assert (expected, None) == compile_expression(text).evaluate({})


def like_by_definition(pattern: str, text: str) -> bool:
    """LIKE by its definition, character by character, with all positions of the text that the
    pattern can have reached.
    """
    reached, at = {0}, 0
    while at < len(pattern):
        if pattern[at] == "\\" and pattern[at + 1 : at + 2] in ("%", "_"):
            at += 1
            reached = {place + 1 for place in reached if text[place : place + 1] == pattern[at]}
        elif pattern[at] == "%":
            reached = set(range(min(reached, default=len(text) + 1), len(text) + 1))
        elif pattern[at] == "_":
            reached = {place + 1 for place in reached if place < len(text)}
        else:
            reached = {place + 1 for place in reached if text[place : place + 1] == pattern[at]}
        at += 1
    return len(text) in reached


@settings(max_examples=500)
@given(
    st.one_of(st.text("a%_", max_size=8), st.text("ab%_\\", max_size=10)),
    st.one_of(st.text("a", max_size=6), st.text("ab%_\\", max_size=12)),
)
def test_like_agrees_with_its_definition(pattern: str, text: str) -> None:
    """The segment matcher finds a match exactly where one exists."""
    assert like_by_definition(pattern, text) is Pattern(pattern).matcher()(text)
