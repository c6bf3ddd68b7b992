"""Laws of schemas: pruned documents have no unknown fields, defaulting is idempotent, generated
documents are valid.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_apiserver.schemas.cel import matches
from headrace_apiserver.schemas.defaulting import defaulted, without_nulls
from headrace_apiserver.schemas.pruning import pruned
from headrace_apiserver.schemas.schema import validate, wrong_types
from headrace_apiserver.schemas.status_causes import number
from headrace_controller.builtin_crds import load_catalog

CATALOG = load_catalog()
NAMES = st.sampled_from("abcd")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text(alphabet="ab", max_size=3)
    | st.sampled_from([0.5, 1.0])
)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    ),
)
PRESERVE = "x-kubernetes-preserve-unknown-fields"


def _leaf(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    nullable = st.sampled_from([{}, {"nullable": True}])
    default: st.SearchStrategy[dict[str, Any]] = st.just({}) | values.map(
        lambda value: {"default": value}
    )
    return st.builds(lambda one, other: {"type": kind, **one, **other}, nullable, default)


LEAVES = (
    _leaf("string", st.text(alphabet="ab", max_size=3))
    | _leaf("integer", st.integers(-3, 3))
    | _leaf("boolean", st.booleans())
    | st.just({"type": "object", PRESERVE: True})
)


def _compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.builds(
        lambda properties, preserving, filled: {
            "type": "object",
            "properties": properties,
            **preserving,
            **filled,
        },
        st.dictionaries(NAMES, inner, max_size=3),
        st.sampled_from([{}, {}, {PRESERVE: True}]),
        st.sampled_from([{}, {}, {"default": {}}]),
    )
    maps = inner.map(lambda each: {"type": "object", "additionalProperties": each})
    lists = inner.map(lambda each: {"type": "array", "items": each})
    return objects | maps | lists


SCHEMAS = st.dictionaries(NAMES, st.recursive(LEAVES, _compound, max_leaves=8), max_size=4).map(
    lambda properties: {"type": "object", "properties": properties}
)


@st.composite
def _fitting(draw: st.DrawFn, schema: dict[str, Any]) -> Any:
    """A value that the schema allows."""
    match schema["type"]:
        case "string":
            return draw(st.text(alphabet="ab", max_size=3))
        case "integer":
            return draw(st.integers(-3, 3))
        case "boolean":
            return draw(st.booleans())
        case "array":
            return [draw(_fitting(schema["items"])) for _ in range(draw(st.integers(0, 2)))]
    found = {
        name: draw(_fitting(each))
        for name, each in (schema.get("properties") or {}).items()
        if draw(st.booleans())
    }
    if "additionalProperties" in schema:
        found |= {
            name: draw(_fitting(schema["additionalProperties"]))
            for name in draw(st.sets(NAMES, max_size=2))
        }
    return found


@given(DOCUMENTS, SCHEMAS)
@settings(max_examples=80)
def test_pruned_documents_have_no_unknown_fields(
    document: dict[str, Any], schema: dict[str, Any]
) -> None:
    """Pruning is idempotent, and finds nothing the second time; the reported paths are all that was
    dropped.
    """
    kept, unknown = pruned(document, schema)
    assert (kept, []) == pruned(kept, schema)
    assert (not unknown) == (kept == document)


@given(DOCUMENTS, SCHEMAS)
@settings(max_examples=80)
def test_defaulting_is_idempotent(document: dict[str, Any], schema: dict[str, Any]) -> None:
    """Defaulting twice is defaulting once; dropping nulls is idempotent too."""
    filled = defaulted(document, schema)
    assert filled == defaulted(filled, schema)
    bare = without_nulls(document, schema)
    assert bare == without_nulls(bare, schema)


@given(DOCUMENTS, SCHEMAS)
@settings(max_examples=80)
def test_defaulting_keeps_values(document: dict[str, Any], schema: dict[str, Any]) -> None:
    """A default never replaces a value."""
    filled = defaulted(document, schema)
    for name, value in document.items():
        if isinstance(value, str | int | float):
            assert value == filled[name]


@given(SCHEMAS.flatmap(lambda schema: st.tuples(st.just(schema), _fitting(schema))))
@settings(max_examples=80)
def test_fitting_documents_are_valid(drawn: tuple[dict[str, Any], Any]) -> None:
    """A document generated from a schema is valid, with and without its defaults."""
    schema, document = drawn
    assert [] == validate(document, schema, matches=matches)
    assert [] == validate(defaulted(document, schema), schema, matches=matches)
    assert (document, []) == pruned(document, schema)


@given(DOCUMENTS, SCHEMAS)
@settings(max_examples=60)
def test_wrong_types_are_among_all_causes(document: dict[str, Any], schema: dict[str, Any]) -> None:
    """The first check reports only what the whole validation reports too."""
    assert set(wrong_types(document, schema)) <= set(validate(document, schema, matches=matches))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_numbers_are_the_numbers(value: float) -> None:
    """A number in a message is parsed as itself to ten digits after the decimal point, and exactly
    if it has an exponent.
    """
    assert abs(float(number(value)) - value) <= 1e-9 * max(1.0, abs(value))


ATTRIBUTES = st.lists(
    st.builds(
        lambda name, value, required: {
            "name": name,
            "required": required,
            **({"value": value} if value else {}),
        },
        st.sampled_from(["type", "source", "schemadata", "specversion", "id", "tenant"]),
        st.text(alphabet="ab{}", max_size=3),
        st.booleans(),
    ),
    unique_by=lambda each: each["name"],
    max_size=6,
)


@given(ATTRIBUTES)
@settings(max_examples=100)
def test_attributes_survive_older_versions(attributes: list[dict[str, Any]]) -> None:
    """An EventType that is converted to an older version and back is unchanged, whatever attributes
    it has.
    """
    old, new = (
        CATALOG.of_path("eventing.knative.dev", version, "eventtypes")
        for version in ("v1beta2", "v1beta3")
    )
    assert old is not None and new is not None
    document = {
        "apiVersion": new.kind.api_version,
        "kind": "EventType",
        "metadata": {},
        "spec": {"attributes": attributes},
    }
    assert document == new.convert(old.convert(document))
