"""Evaluation beyond the documented cases: limits of results, user-defined functions, and the part
of an expression that decided.
"""

import pytest

from headrace.domain.cesql import (
    BUILT_IN,
    STRING_LENGTH_MAX,
    ErrorKind,
    Function,
    Result,
    Type,
    compile_expression,
    deciding_part,
    with_functions,
)
from headrace.domain.cesql.budget import Metered
from headrace.domain.cesql.like import Pattern

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "com.example.made",
    "subject": "x",
    "text": "a" * 8_192,
}


def kind(result: Result) -> ErrorKind | None:
    """Return the kind of the problem, or None without a problem."""
    return result.problem.kind if result.problem else None


def test_a_function_builds_no_endless_string() -> None:
    """A result above the size limit is an error with an empty string, and does not use
    the memory.
    """
    result = compile_expression(f"CONCAT({', '.join(['text'] * 9)})").evaluate(EVENT)
    assert ("", ErrorKind.FUNCTION_EVALUATION) == (result.value, kind(result))
    assert (
        STRING_LENGTH_MAX
        == compile_expression(f"LENGTH(CONCAT({', '.join(['text'] * 8)}))").evaluate(EVENT).value
    )
    assert ErrorKind.FUNCTION_EVALUATION is kind(
        compile_expression(f"CONCAT_WS(text{', 1' * 10})").evaluate(EVENT)
    )


def test_functions_of_the_users_are_found_by_arity() -> None:
    """Users can add a function; its arguments are cast, and overloads differ in the number of
    arguments.
    """
    functions = with_functions(
        BUILT_IN,
        Function("EVEN", (Type.STRING,), Type.BOOLEAN, lambda text: len(text) % 2 == 0),
        Function("EVEN", (Type.INTEGER, Type.INTEGER), Type.BOOLEAN, lambda x, y: (x + y) % 2 == 0),
    )
    assert (True, None) == compile_expression("even(sequence + 10)", functions).evaluate(
        {"sequence": "12"}
    )
    assert (False, None) == compile_expression("EVEN('1', 2)", functions).evaluate({})
    assert ErrorKind.MISSING_FUNCTION is kind(compile_expression("EVEN(1)").evaluate({}))


def test_a_failing_function_of_the_users_is_an_error_of_the_language() -> None:
    """An exception in a user-defined function becomes functionEvaluation, with the zero value of
    its type.
    """
    functions = with_functions(BUILT_IN, Function("FAIL", (), Type.INTEGER, lambda: 1 // 0))
    result = compile_expression("FAIL()", functions).evaluate({})
    assert (0, ErrorKind.FUNCTION_EVALUATION) == (result.value, kind(result))


def test_expressions_are_equal_if_they_evaluate_equally() -> None:
    """That is, with the same text and functions; 1 and TRUE differ, although Python's are equal."""
    functions = with_functions(BUILT_IN, Function("FAIL", (), Type.INTEGER, lambda: 1 // 0))
    one = compile_expression("x = 1")
    assert one == compile_expression("x = 1")
    assert hash(one) == hash(compile_expression("x = 1"))
    assert one != compile_expression("x = TRUE")
    assert one != compile_expression("x = 1", functions)


@pytest.mark.parametrize(
    "function",
    [
        Function("LENGTH", (Type.INTEGER,), Type.INTEGER, abs),
        Function("CONCAT", (Type.STRING,), Type.STRING, str),
        Function("SUBSTRING", (Type.STRING,), Type.STRING, str, Type.STRING),
    ],
)
def test_functions_that_cannot_be_distinguished_are_refused(function: Function) -> None:
    """Name and arity identify a function, and a variadic function must start above the others
    (CESQL 3.5).
    """
    with pytest.raises(ValueError, match="cannot be distinguished from"):
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
    """The first of several conditions that failed, the first alternative that passed, else the
    whole expression.
    """
    assert part == deciding_part(compile_expression(text), EVENT).text


@pytest.mark.parametrize(
    "pattern",
    [
        "%a_%a_%a_b%",
        "%" + "a_" * 200 + "b%",
        "%_a_b%_a_b%_a_b%",
        "%" + "a_" * 200 + "a%b_c%",
        "%aab%",
    ],
)
def test_the_steps_of_like_grow_with_the_text(pattern: str) -> None:
    """The steps of a match grow with the text, not with the backtracking of the pattern, and stay
    below the announced maximum.
    """
    compiled = Pattern(pattern)
    matches = compiled.metered_matcher()
    spent = []
    for size in (2_000, 4_000, 8_000):
        meter = Metered({}, steps := compiled.steps(size))
        assert not matches("a" * size, meter)
        spent.append(steps - meter.left)
    assert spent[2] < 2.5 * spent[1] < 6.25 * spent[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0" * 8_191 + "7", 7),
        ("-" + "0" * 60_000 + "7", -7),
        ("+0000000000000000007", 7),
        ("0" * 65_000, 0),
        ("-00000000002147483648", -(2**31)),
    ],
)
def test_leading_zeros_count_for_nothing(text: str, number: int) -> None:
    """An integer may have any number of them."""
    assert (number, None) == compile_expression("INT(x)").evaluate({"x": text})


@pytest.mark.parametrize(
    "text",
    [
        "1" + "0" * 10,
        "0" * 20 + "a",
        "0a" + "0" * 20,
        "1" * 8_192,
        "--1",
        "0" * 10 + "2147483648",
        "00000000000-1",
    ],
)
def test_a_long_text_that_spells_no_integer_of_32_bits_is_a_cast_error(text: str) -> None:
    """This does not depend on the text between its zeros."""
    assert ErrorKind.CAST is kind(compile_expression("INT(x)").evaluate({"x": text}))
