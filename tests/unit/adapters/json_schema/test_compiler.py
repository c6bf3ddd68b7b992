"""JSON Schemas: which can be used, and what a check says."""

import json
import time
from typing import Any

import pytest

from headrace.adapters.json_schema.compiler import compile_schema
from headrace.domain.event_schemas import SCHEMA_BYTES_MAX, InvalidSchema, Violation
from headrace.domain.schema_complexity import WORK_MAX

ORDER = {
    "type": "object",
    "required": ["total"],
    "properties": {
        "total": {"type": "number", "minimum": 1},
        "a/b~": {"items": {"type": "string", "maxLength": 3}},
        "kind": {"enum": ["x", "y"]},
        "code": {"pattern": "^[a-z]+$"},
        "secret": False,
    },
    "additionalProperties": False,
}


def violation(schema: Any, data: Any) -> Violation | None:
    """The result of a check."""
    return compile_schema(json.dumps(schema))(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"total": 1}, None),
        ({}, Violation("required", "", "/required", '"total"')),
        ({"total": 0}, Violation("minimum", "/total", "/properties/total/minimum", "1")),
        ({"total": "1"}, Violation("type", "/total", "/properties/total/type", '"number"')),
        (
            {"total": 1, "a/b~": ["ok", "toolong"]},
            Violation("maxLength", "/a~1b~0/1", "/properties/a~1b~0/items/maxLength", "3"),
        ),
        (
            {"total": 1, "kind": "z"},
            Violation("enum", "/kind", "/properties/kind/enum", '["x", "y"]'),
        ),
        ([], Violation("type", "", "/type", '"object"')),
    ],
)
def test_a_violation_names_path_and_rule(data: Any, expected: Violation | None) -> None:
    """As JSON pointers (RFC 6901), with the value of the keyword."""
    assert expected == violation(ORDER, data)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b'{"a":1}x'])
def test_what_is_not_json_violates_the_rule_json(data: bytes) -> None:
    """An event without data too: a schema describes a value."""
    found = compile_schema("{}")(data)
    assert found is not None and found.rule == "json"
    assert "the data is not JSON" == str(found)


@pytest.mark.parametrize("data", [b"1e999", b"9" * 400, b'"\\ud800"', b"[" * 900 + b"]" * 900])
def test_odd_values_are_checked_without_an_exception(data: bytes) -> None:
    """Numbers beyond any range, half of a surrogate pair, deep nesting."""
    compile_schema('{"type":["number","string","array"]}')(data)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "an object, true or false"),
        ('"x"', "an object, true or false"),
        ('{"type":"record","name":"Avro","fields":[]}', "record"),
        ('{"$ref":"http://127.0.0.1:1/x"}', "only references within the schema"),
        ('{"properties":{"a":{"$ref":"file:///etc/passwd"}}}', "only references within the schema"),
        ('{"$defs":{"unused":{"$ref":"http://127.0.0.1:1/x"}}}', "Retrieval is disabled"),
        ('{"$schema":"http://127.0.0.1:1/meta"}', "meta-schema"),
        ('{"$ref":"#/$defs/no"}', "no such place"),
        ('{"$ref":"#no"}', "no such anchor"),
        ('{"properties":{"child":{"$ref":"#"}}}', "refers to itself"),
        ('{"$dynamicRef":"#x"}', "$dynamicRef is not supported"),
        ('{"properties":{"a":{"$id":"http://x/"}}}', "$id"),
        ('{"pattern":"(?=a)b"}', "regex"),
        ('{"minimum":NaN}', "NaN is not JSON"),
        ('{"title":"\\ud800"}', "surrogate"),
        ('{"allOf":' * 5_000, "nested too deeply"),
        (json.dumps({"title": "x" * SCHEMA_BYTES_MAX}), f"may have {SCHEMA_BYTES_MAX}"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema: str, reason: str) -> None:
    """Nothing outside of the schema is read, and a check has a bound."""
    with pytest.raises(InvalidSchema) as error:
        compile_schema(schema)
    assert reason in str(error.value)
    assert len(str(error.value)) <= 400


@pytest.mark.parametrize(
    ("schema", "data", "conforms"),
    [
        (True, 1, True),
        (False, 1, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x", True),
        ({"$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "string"}}}, 1, False),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "type": "string"}, 1, False),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "const": 1}, 1, True),
        ({"$id": "http://example.com/s", "type": "string"}, "x", True),
    ],
)
def test_drafts_and_references_within_the_schema(schema: Any, data: Any, conforms: bool) -> None:
    """Draft 4 to 2020-12, by `$schema`."""
    assert conforms is (violation(schema, data) is None)


def test_a_schema_has_no_unnecessary_white_space_as_text() -> None:
    """The form in which it is stored."""
    assert '{"title":"ü"}' == compile_schema('{ "title" : "\\u00fc" }').text


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_a_violation_in_large_data_takes_no_more_time_than_the_check(keyword: str) -> None:
    """The library would collect every violation of every alternative. A violation beside the
    alternatives is located; another one is not, in large data.
    """
    alternatives = [{"items": {"type": "string"}}, {"items": {"type": "object"}}] * 25
    large = b"[" + b"1," * 400_000 + b"1]"
    compiled = compile_schema(json.dumps({keyword: alternatives, "maxItems": 10}))
    started = time.process_time()
    found = compiled(large)
    assert found is not None and found.rule == "maxItems"
    found = compile_schema(json.dumps({keyword: alternatives}))(large)
    assert Violation("anyOf") == found
    assert time.process_time() - started < 5.0
    small = compile_schema(json.dumps({"properties": {"a": {keyword: alternatives}}}))
    found = small(b'{"a":[1]}')
    assert found is not None and (found.rule, found.path) == (keyword, "/a")


def test_many_violations_cost_no_more_than_one() -> None:
    """The first one is enough."""
    started = time.process_time()
    found = compile_schema('{"items":{"type":"string"}}')(b"[" + b"1," * 400_000 + b"1]")
    assert found is not None and found.path == "/0"
    assert time.process_time() - started < 2.0


def test_the_work_of_one_check_is_bounded() -> None:
    """The dearest schema with the most data that it is checked against, in which every second byte
    is a value.
    """
    dear = {"items": {"allOf": [{"not": {"type": "string"}}] * 450}}
    compiled = compile_schema(json.dumps(dear))
    size = min(compiled.data_bytes_max, 983_040)
    data = b"[" + b"1," * ((size - 4) // 2) + b"1]"
    started = time.process_time()
    assert compiled(data) is None
    assert time.process_time() - started < 5.0
    assert size * 450 <= WORK_MAX
    found = compiled(b" " * (compiled.data_bytes_max + 1))
    assert found is not None and found.rule == "size"
    assert "does not satisfy size of at most" in str(found)
