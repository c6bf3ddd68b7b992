"""Evaluation beside the stated cases: bounds on results, functions of the user's, and which part of an expression decided."""

import pytest

from headrace.domain.cesql import (
    BUILT_IN,
    STRING_LENGTH_MAX,
    ErrorKind,
    Function,
    Result,
    Type,
    compile_expression,
    decisive_part,
    with_functions,
)
from headrace.domain.cesql.like import compile_pattern

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.made", "subject": "x", "text": "a" * 8_192}


def kind(result: Result) -> ErrorKind | None:
    """The kind of the problem, None without one."""
    return result.problem.kind if result.problem else None


def test_a_function_builds_no_endless_string() -> None:
    """Past the limit of a string's size there is an error and an empty string, not the memory used."""
    result = compile_expression(f"CONCAT({', '.join(['text'] * 9)})").evaluate(EVENT)
    assert ("", ErrorKind.FUNCTION_EVALUATION) == (result.value, kind(result))
    assert STRING_LENGTH_MAX == compile_expression(f"LENGTH(CONCAT({', '.join(['text'] * 8)}))").evaluate(EVENT).value
    assert ErrorKind.FUNCTION_EVALUATION is kind(compile_expression(f"CONCAT_WS(text{', 1' * 10})").evaluate(EVENT))


def test_functions_of_the_users_are_found_by_arity() -> None:
    """A function can be added; its arguments are cast and overloads are told apart by number."""
    functions = with_functions(
        BUILT_IN,
        Function("EVEN", (Type.STRING,), Type.BOOLEAN, lambda text: len(text) % 2 == 0),
        Function("EVEN", (Type.INTEGER, Type.INTEGER), Type.BOOLEAN, lambda x, y: (x + y) % 2 == 0),
    )
    assert (True, None) == compile_expression("even(sequence + 10)", functions).evaluate({"sequence": "12"})
    assert (False, None) == compile_expression("EVEN('1', 2)", functions).evaluate({})
    assert ErrorKind.MISSING_FUNCTION is kind(compile_expression("EVEN(1)").evaluate({}))


def test_a_failing_function_of_the_users_is_an_error_of_the_language() -> None:
    """Whatever a user's function raises becomes functionEvaluation and the zero value of its type."""
    functions = with_functions(BUILT_IN, Function("FAIL", (), Type.INTEGER, lambda: 1 // 0))
    result = compile_expression("FAIL()", functions).evaluate({})
    assert (0, ErrorKind.FUNCTION_EVALUATION) == (result.value, kind(result))


@pytest.mark.parametrize(
    "function",
    [
        Function("LENGTH", (Type.INTEGER,), Type.INTEGER, abs),
        Function("CONCAT", (Type.STRING,), Type.STRING, str),
        Function("SUBSTRING", (Type.STRING,), Type.STRING, str, Type.STRING),
    ],
)
def test_functions_that_cannot_be_told_apart_are_refused(function: Function) -> None:
    """Name and arity identify a function, and a variadic one must start beyond the others (CESQL 3.5)."""
    with pytest.raises(ValueError, match="cannot be told from"):
        with_functions(BUILT_IN, function)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("type LIKE 'org.%' AND subject = 'x'", "type LIKE 'org.%'"),
        ("type LIKE 'com.%' AND subject = 'y' AND id = '1'", "subject = 'y'"),
        ("type = 'a' OR subject = 'x'", "subject = 'x'"),
        ("(type = 'a' OR subject = 'y') AND id = '1'", "type = 'a' OR subject = 'y'"),
        ("(type = 'a' OR missing = 'y') AND id = '1'", "missing = 'y'"),
        ("id = '1' AND subject = 'x'", "id = '1' AND subject = 'x'"),
        ("id = '1' XOR subject = 'x'", "id = '1' XOR subject = 'x'"),
        ("id = '1'", "id = '1'"),
    ],
)
def test_the_decisive_part_is_the_smallest_that_settles(text: str, part: str) -> None:
    """The first condition that failed of many, the first alternative that held, else the whole."""
    assert part == decisive_part(compile_expression(text), EVENT).text


class CountedText(str):
    """Counts how often a single character is taken out of it."""

    looks: int = 0

    def __getitem__(self, key: object) -> str:
        self.looks += 1
        return super().__getitem__(key)  # type: ignore[index]


@pytest.mark.parametrize("pattern", ["%a_%a_%a_b%", "%" + "a_" * 200 + "b%", "%_a_b%_a_b%_a_b%"])
def test_like_looks_at_each_character_once(pattern: str) -> None:
    """The work of a match grows with the text and not with what the pattern could backtrack over."""
    for size in (1_000, 2_000, 4_000):
        text = CountedText("a" * size)
        assert not compile_pattern(pattern)(text)
        assert 0 < text.looks <= size
