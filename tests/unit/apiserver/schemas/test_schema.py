"""Bounds of validation, and values that messages must not repeat."""

from typing import Any

import pytest

from headrace_apiserver.schemas import schema as schemas
from headrace_apiserver.schemas.cel import matches
from headrace_apiserver.schemas.formats import has_format
from headrace_apiserver.schemas.schema import CAUSES_MAX, validate, wrong_types
from headrace_apiserver.schemas.status_causes import number, shown


def test_causes_are_bounded() -> None:
    """Of an object with a thousand errors a hundred are reported."""
    document = {"list": [1] * 1_000}
    found = validate(
        document, {"properties": {"list": {"items": {"type": "string"}}}}, matches=matches
    )
    assert CAUSES_MAX == len(found)


def test_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested alternatives do not multiply without limit: the walk stops with a cause that
    says so.
    """
    monkeypatch.setattr(schemas, "STEPS_MAX", 1_000)
    nested: dict[str, Any] = {"type": "integer"}
    for _ in range(12):
        nested = {"oneOf": [nested, nested, nested]}
    found = validate({"a": "x"}, {"properties": {"a": nested}}, matches=matches)
    assert any("too large to be compared" in cause.message for cause in found)


def test_invalid_byte_values_are_not_repeated() -> None:
    """A secret that a user forgot to encode is not repeated in an error, which clients log."""
    found = validate(
        {"data": {"password": "hunter2!"}},
        {"properties": {"data": {"additionalProperties": _BYTES}}},
        matches=matches,
    )
    assert ["data.password"] == [cause.field for cause in found]
    assert "hunter2" not in found[0].message


_BYTES = {"type": "string", "format": "byte"}


def test_long_values_are_cut() -> None:
    """A message does not repeat a quarter of a megabyte."""
    found = validate(
        {"a": "x" * 200_000},
        {"properties": {"a": {"type": "string", "enum": ["y"]}}},
        matches=matches,
    )
    assert len(found[0].message) < 3_000


def test_wrong_types_reports_types_only() -> None:
    """Only what would break a kind's own rules is reported, and not what those rules check."""
    schema = {
        "properties": {"a": {"type": "string", "minLength": 3}, "b": {"type": "integer"}},
        "required": ["c"],
    }
    assert ["b"] == [cause.field for cause in wrong_types({"a": "x", "b": "y"}, schema)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("0.5", 0.5),
        ("0.0001", 0.0001),
        ("1e-05", 0.00001),
        ("100000", 100_000.0),
        ("1e+06", 1_000_000.0),
        ("1.5e+21", 1.5e21),
        ("-2.25", -2.25),
    ],
)
def test_numbers_are_printed_as_go_prints_them(text: str, value: float) -> None:
    """Messages with numbers are equal to the real server's."""
    assert text == number(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"a\\"b"', 'a"b'),
        ("true", True),
        ("null", None),
        ("[1]", [1]),
        ('{"a":1}', {"a": 1}),
        ('"\\u2028"', "\u2028"),
    ],
)
def test_values_are_printed_as_json(text: str, value: Any) -> None:
    """An invalid value is shown as it can be found in the manifest."""
    assert text == shown(value)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2026-02-28T23:59:59.5Z", "2026-02-30T00:00:00Z"),
        ("datetime", "2026-01-01t00:00:00+01:00", "2026-01-01 00:00:00"),
        ("date", "2026-01-31", "2026-01-32"),
        ("byte", "YQ==", "a"),
        ("uri", "https://example.com/a?b#c", "a b"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.1/8", "10.0.0.1"),
        ("uuid", "0F8FAD5B-D9CB-469F-A165-70867728950E", "0f8f"),
        ("hostname", "a.example", "-a.example"),
        ("email", "a@b.example", "a b@c"),
        ("mac", "00:1b:44:11:3a:b7", "00:1b"),
        ("duration", "1.5h", "1.5"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    """A format accepts what it names and nothing else."""
    assert has_format(good, name)
    assert not has_format(bad, name)


def test_unknown_formats_are_not_checked() -> None:
    """An unchecked format does not refuse anything."""
    assert has_format("whatever", "int-or-moon")
