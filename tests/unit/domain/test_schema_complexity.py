"""The cost of a schema: what a check of one value may have to do."""

import json
from typing import Any

import pytest

from headrace.domain.event_schemas import InvalidSchema
from headrace.domain.schema_complexity import COST_MAX, DEPTH_MAX, WORK_MAX, cost_of, data_bytes_max


@pytest.mark.parametrize(
    ("schema", "cost"),
    [
        (True, 1),
        ({}, 1),
        ({"type": "string"}, 2),
        ({"enum": [1, 2, [3, 4]]}, 7),
        ({"pattern": "a" * 16}, 4),
        ({"patternProperties": {"a" * 16: {}}}, 6),
        ({"properties": {"a": {"type": "string"}, "b": {}}}, 5),
        ({"properties": {"$id": {"type": "string"}}}, 4),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, 5),
        ({"items": [{}, {}]}, 4),
        ({"dependencies": {"a": ["b"], "c": {}}}, 3),
    ],
)
def test_keywords_are_counted(schema: Any, cost: int) -> None:
    """What a reference refers to is counted where it is used."""
    assert cost == cost_of(schema)
    assert data_bytes_max(cost) == WORK_MAX // cost


def doubling(levels: int) -> dict[str, Any]:
    """A schema of `levels` levels that applies 2^levels subschemas to one value."""
    definitions: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string"}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


def test_a_small_text_may_be_a_large_schema() -> None:
    """It is rejected by its cost, not its size, and at once."""
    assert cost_of(doubling(8)) > 2**8
    assert len(json.dumps(doubling(30))) < 3_000
    with pytest.raises(InvalidSchema, match=f"more than {COST_MAX} keywords"):
        cost_of(doubling(30))


def test_nesting_is_bounded() -> None:
    """And named."""
    schema: dict[str, Any] = {}
    for _ in range(DEPTH_MAX + 2):
        schema = {"not": schema}
    with pytest.raises(InvalidSchema, match=f"{DEPTH_MAX} levels"):
        cost_of(schema)
