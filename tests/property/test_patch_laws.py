"""Laws of patches: what holds for any document and any patch."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_apiserver.patching.patch import merged, patched

names = st.sampled_from("abc")
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "/"])
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, values, max_size=3)


def without_nulls(value: Any) -> Any:
    """The value without fields that are null; lists are values of their own."""
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(each) for name, each in value.items() if each is not None}


def difference(before: Any, after: Any) -> Any:
    """The merge patch that turns `before` into `after`; it cannot set a field to null."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    gone = dict.fromkeys(before.keys() - after.keys())
    changed = {
        name: difference(before[name], value) if name in before else value
        for name, value in after.items()
    }
    return {**gone, **changed}


@settings(max_examples=60)
@given(objects, objects)
def test_merging_twice_is_merging_once(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """A merge patch is idempotent."""
    once = merged(document, patch)
    assert once == merged(once, patch)


@settings(max_examples=60)
@given(objects)
def test_an_empty_merge_patch_changes_nothing(document: dict[str, Any]) -> None:
    """The identity of merging."""
    assert document == merged(document, {})


@settings(max_examples=60)
@given(objects, objects)
def test_any_object_can_be_reached_by_a_merge_patch(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """If it has no null fields, which a patch reads as removals."""
    before, after = without_nulls(before), without_nulls(after)
    assert after == merged(before, difference(before, after))


@settings(max_examples=60)
@given(objects, objects, objects)
def test_merge_patches_compose(
    document: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Two patches applied in sequence give the fields of the second where it sets them."""
    both = merged(merged(document, first), second)
    assert both == merged(both, second)


@settings(max_examples=60)
@given(objects, objects)
def test_merging_changes_neither(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Both stay unchanged."""
    before = repr((document, patch))
    merged(document, patch)
    assert before == repr((document, patch))


@settings(max_examples=60)
@given(objects, names, values)
def test_an_added_value_can_be_tested_and_removed(
    document: dict[str, Any], name: str, value: Any
) -> None:
    """add, test and remove are inverse to each other."""
    added = patched(
        document,
        [
            {"op": "add", "path": f"/{name}", "value": value},
            {"op": "test", "path": f"/{name}", "value": value},
        ],
    )
    rest = patched(added, [{"op": "remove", "path": f"/{name}"}])
    assert {key: each for key, each in document.items() if key != name} == rest


@settings(max_examples=60)
@given(objects.filter(bool), names, st.data())
def test_moving_is_copying_and_removing(
    document: dict[str, Any], target: str, data: st.DataObject
) -> None:
    """The one in terms of the others."""
    source = data.draw(st.sampled_from(sorted(document)))
    moved = patched(document, [{"op": "move", "from": f"/{source}", "path": f"/{target}"}])
    copied = patched(document, [{"op": "copy", "from": f"/{source}", "path": f"/{target}"}])
    assert moved == (
        copied if source == target else patched(copied, [{"op": "remove", "path": f"/{source}"}])
    )
