"""Errors in filters, by field: some are refused everywhere, others only where the user can still be
notified.
"""

from typing import Any

import pytest

from headrace.domain import filters
from headrace.domain.filters import CLAUSES_MAX, DEPTH_MAX, TEXT_LENGTH_MAX

NAME_RULE = "Attribute name must start with a letter and can only contain lowercase alphanumeric"


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        (
            [{"exact": {"type": "a"}, "suffix": {"type": "b"}}],
            (
                "multiple dialects found, filters can have only one dialect set",
                "spec.filters[0]",
                "exact, suffix",
            ),
        ),
        ([{"sql": "TRUE"}], ("invalid value: sql", "spec.filters[0]", "there is no such dialect")),
        (["x"], ("invalid value: x", "spec.filters[0]", "a filter is a mapping")),
        ({"exact": {}}, ("invalid value: dict", "spec.filters", "expected a list")),
        (
            [{"exact": ["type"]}],
            ("invalid value: list", "spec.filters[0].exact", "expected a mapping"),
        ),
        (
            [{"exact": {"type": 5}}],
            ("invalid value: 5", "spec.filters[0].exact.type", "put it in quotes"),
        ),
        (
            [{"any": {"exact": {}}}],
            ("invalid value: dict", "spec.filters[0].any", "expected a list"),
        ),
        (
            [{"all": [{"not": {"any": [5]}}]}],
            ("invalid value: 5", "spec.filters[0].all[0].not.any[0]", "a filter is a mapping"),
        ),
        (
            [{"cesql": "type ="}],
            ("invalid value: type =", "spec.filters[0].cesql", "expected a value, found the end"),
        ),
        ([{"cesql": 5}], ("invalid value: 5", "spec.filters[0].cesql", "expected an expression")),
        (
            [{"exact": {"type": "x" * (TEXT_LENGTH_MAX + 1)}}],
            ("invalid value: xxx", "spec.filters[0].exact.type", "at most 8192"),
        ),
    ],
)
def test_what_has_no_meaning_is_refused_everywhere(
    entries: Any, error: tuple[str, str, str]
) -> None:
    """Validation names the field, and compiling raises an error with the same wording."""
    [found] = filters.validate(entries, "spec.filters")
    message, path, details = error
    assert (path,) == found.paths
    assert found.message.startswith(message)
    assert details in found.details
    with pytest.raises(filters.InvalidFilter) as caught:
        filters.compile(entries, path="spec.filters")
    assert (found,) == caught.value.errors


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        (
            [{"exact": {"Type": "a"}}],
            ('invalid key name "Type"', "spec.filters[0].exact[Type]", NAME_RULE),
        ),
        (
            [{"prefix": {"type": ""}}],
            ("invalid value: ", "spec.filters[0].prefix.type", "an empty text matches no event"),
        ),
        ([{"any": []}], ("missing field(s)", "spec.filters[0].any", "needs at least one")),
        (
            [{"cesql": "LENGTH(id)"}],
            ("invalid value: LENGTH(id)", "spec.filters[0].cesql", "a filter needs a Boolean"),
        ),
    ],
)
def test_what_would_surprise_is_refused_at_the_door_only(
    entries: list[Any], error: tuple[str, str, str]
) -> None:
    """A manifest is refused, but an existing routing record is still accepted."""
    [found] = filters.validate(entries, "spec.filters")
    message, path, details = error
    assert (message, (path,)) == (found.message, found.paths)
    assert details in found.details
    filters.compile(entries)


@pytest.mark.parametrize(
    "name",
    [
        "source",
        "id",
        "specversion",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "dataschema",
        "aaa",
        "c1d2e3",
    ],
)
def test_attribute_names_are_taken(name: str) -> None:
    """Names that start with a letter, followed by letters and digits, all lower case."""
    assert [] == filters.validate([{"exact": {name: "x"}}], "spec.filters")


@pytest.mark.parametrize(
    "name",
    ["SOURCE", "souRce", "s pace s", "s_pace_s", "s-pace-s", "123", "😊", "", "a.b", "ä", "a" * 65],
)
def test_other_names_are_refused(name: str) -> None:
    """Every other name is reported as an invalid key."""
    [error] = filters.validate([{"suffix": {name: "x"}}], "spec.filters")
    assert error.message.startswith("invalid key name")


def test_all_errors_are_reported_together() -> None:
    """One response lists all invalid fields, so that a manifest can be corrected in one edit."""
    wrong: list[dict[str, Any]] = [
        {"exact": {"A": "x", "type": 5}},
        {"cesql": "("},
        {"any": [{"x": 1}]},
    ]
    assert {
        "spec.filters[0].exact[A]",
        "spec.filters[0].exact.type",
        "spec.filters[1].cesql",
        "spec.filters[2].any[0]",
    } == {path for error in filters.validate(wrong, "spec.filters") for path in error.paths}


def nested(levels: int) -> dict[str, Any]:
    """Return a filter inside `levels` nested `not`."""
    entry: dict[str, Any] = {"exact": {"type": "x"}}
    for _ in range(levels):
        entry = {"not": entry}
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        [nested(DEPTH_MAX + 1)],
        [nested(100_000)],
        [{"exact": {"type": "x"}}] * CLAUSES_MAX,
        [{"any": [{}] * 1_000_000}],
        [{"cesql": "a" + " OR a" * 400}] * 3,
        [{"exact": {f"a{number}": "x" for number in range(CLAUSES_MAX)}}],
    ],
    ids=["deep", "very deep", "many", "very many", "large expressions", "many attributes"],
)
def test_size_is_bounded(entries: list[Any]) -> None:
    """Nesting and number of clauses are limited. Above a limit there is one error and no long
    computation.
    """
    [error] = filters.validate(entries, "spec.filters")
    assert "use several subscriptions" in error.details
    with pytest.raises(filters.InvalidFilter):
        filters.compile(entries)


def test_the_limits_themselves_are_taken() -> None:
    """Filters with exactly the allowed depth and size compile and evaluate."""
    assert not filters.compile([nested(DEPTH_MAX)]).matches({})
    many = [{"exact": {"type": "x"}}] * (CLAUSES_MAX // 2)
    assert filters.compile(many).matches({"type": "x"})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("UPPR(type) = 'X'", "there is no function UPPR; perhaps UPPER is meant"),
        ("type = 'x' OR NOT uppr(type) = 'X'", "there is no function UPPR; perhaps UPPER is meant"),
        ("FOO(type) = 'x'", "there is no function FOO; there are ABS, BOOL, CONCAT, "),
        ("LENGTH(type, 1) = 1", "function LENGTH takes 1 argument, not 2"),
        ("SUBSTRING(type) = 'x'", "function SUBSTRING takes 2 or 3 arguments, not 1"),
        ("CONCAT_WS() = 'x'", "function CONCAT_WS takes 1 or more arguments, not 0"),
    ],
)
def test_functions_that_do_not_exist_are_remarked_upon(expression: str, expected: str) -> None:
    """In CESQL they fail only during evaluation, so the filter is valid, but most likely
    a mistake.
    """
    entries = [{"exact": {"type": "x"}}, {"not": {"cesql": expression}}]
    assert [] == filters.validate(entries, "spec.filters")
    [remark] = filters.remarks(entries, "spec.filters")
    assert remark.startswith(f"spec.filters[1].not.cesql: {expected}")


def test_remarks_are_few() -> None:
    """There are no warnings for a correct filter, no duplicates, and a limit on their number."""
    assert [] == filters.remarks([{"cesql": "UPPER(LEFT(type, 2)) = 'CO'"}], "spec.filters")
    assert 1 == len(filters.remarks([{"cesql": "F(type) = F(source)"}], "spec.filters"))
    names = [f"F{chr(65 + one)}{chr(65 + two)}" for one in range(20) for two in range(5)]
    assert filters.REMARKS_MAX == len(
        filters.remarks([{"cesql": f"{name}(id)"} for name in names], "spec.filters")
    )
