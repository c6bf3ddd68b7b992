"""Operations on documents with a type: the fields of a document, the difference of two, their
merge, and the removal of fields. (pure)

These four walks are the basis of server-side apply. All follow the rules of Kubernetes' structured
merge, so that managers and conflicts are the same as in a cluster; nothing is changed in place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headrace_apiserver.patching.field_set import FieldSet, Path, shown
from headrace_apiserver.patching.field_types import FieldStructure, FieldType

_ABSENT: Final = object()


@dataclass(slots=True)
class Comparison:
    """The fields in which two documents differ."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)

    @property
    def changed(self) -> set[Path]:
        """Added or modified."""
        return self.added | self.modified


def fields_of(document: Any, kind: FieldType) -> FieldSet:
    """The fields of a document: those that its manager owns after an apply."""
    paths: set[Path] = set()
    _collect(document, kind, (), paths)
    return frozenset(paths)


def compared(before: Any, after: Any, kind: FieldType) -> Comparison:
    """The fields in which `after` differs from `before`."""
    found = Comparison()
    _compare(before, after, kind, (), found)
    return found


def merged(live: Any, applied: Any, kind: FieldType) -> Any:
    """`live` merged with `applied`: the fields of `applied` win, all others stay."""
    return _merge(live, applied, kind)


def without(document: Any, fields: Iterable[Path], kind: FieldType) -> Any:
    """The document without these fields. A value that has lost everything below it becomes null."""
    gone = fields if isinstance(fields, set | frozenset) else frozenset(fields)
    above = {path[:length] for path in gone for length in range(len(path))}
    return _remove(document, gone, above, kind, ())


def restore_empty_values(pruned: Any, whole: Any, applied: Any, kind: FieldType) -> Any:
    """`pruned`, the result of `without` on `whole`, with empty values restored, so that it passes
    its schema and a repeated apply changes nothing.

    Where all parts of an object or list with a schema were removed, an empty value replaces null,
    which the schema does not allow. Empty objects and lists in `applied` stay: they have no fields
    that could be owned, so pruning removed them as if nobody wanted them.
    """
    if (
        isinstance(pruned, dict)
        and isinstance(whole, dict)
        and kind.structure(pruned) is FieldStructure.MAP
    ):
        wanted = applied if isinstance(applied, dict) else {}
        result = {name: value for name, value in wanted.items() if name not in pruned}
        for name, _, below in kind.members(pruned):
            value, before, asked = pruned[name], whole.get(name), wanted.get(name)
            if value is not None:
                result[name] = restore_empty_values(value, before, asked, below)
            else:
                result[name] = asked if asked is not None else _emptied(before, below)
        return result
    if (
        isinstance(pruned, list)
        and isinstance(whole, list)
        and kind.structure(pruned) is FieldStructure.ENTRIES
    ):
        before, wanted_entries = (
            _by_element(whole, kind),
            _by_element(applied if isinstance(applied, list) else (), kind),
        )
        found = ((entry, kind.element(entry)) for entry in pruned)
        return [
            restore_empty_values(
                entry, _only(before, name), _only(wanted_entries, name), kind.entry()
            )
            for entry, name in found
        ]
    return pruned


def with_named(fields: Iterable[Path], kind: FieldType) -> FieldSet:
    """The fields, and those of their parents that the schema names: a manager that owns everything
    below such a field owns the field too.
    """
    paths = set(fields)
    types: dict[Path, FieldType] = {(): kind}
    for path in list(paths):
        for length in range(1, len(path)):
            upper, element = path[: length - 1], path[length - 1]
            if element.startswith("f:") and types[upper].named(element[2:]):
                paths.add(path[:length])
            if path[:length] not in types:
                types[path[:length]] = types[upper].at(element)
    return frozenset(paths)


def _collect(document: Any, kind: FieldType, path: Path, paths: set[Path]) -> None:
    match kind.structure(document):
        case FieldStructure.ATOMIC:
            if path:
                paths.add(path)
        case FieldStructure.MAP:
            if isinstance(document, dict):
                for name, element, below in kind.members(document):
                    value = document[name]
                    further = (*path, element)
                    _collect(value, below, further, paths)
                    if value is None or value == {} or not kind.named(name):
                        paths.add(further)
        case FieldStructure.SET | FieldStructure.ENTRIES:
            for entry in document if isinstance(document, list) else ():
                further = (*path, kind.element(entry))
                _collect(entry, kind.entry(), further, paths)
                paths.add(further)


def _compare(before: Any, after: Any, kind: FieldType, path: Path, found: Comparison) -> None:
    forms = dict.fromkeys(kind.structure(each) for each in (before, after) if each is not _ABSENT)
    leaf = False
    for structure in forms:
        # Values of two structures (an object where there was text, in a field without schema)
        # differ as a whole and in their parts.
        leaf = _compare_parts(before, after, structure, kind, path, found)
    if not leaf and path:
        _note(before, after, path, found, leaf=False)


def _compare_parts(
    before: Any,
    after: Any,
    structure: FieldStructure,
    kind: FieldType,
    path: Path,
    found: Comparison,
) -> bool:
    """Compare with this structure; True if there was nothing to descend into, so that the value
    counts as a leaf.
    """
    old, new = _parts(before, structure), _parts(after, structure)
    if structure is FieldStructure.ATOMIC or not (old or new):
        _note(before, after, path, found, leaf=True)
        return True
    if isinstance(old, dict) and isinstance(new, dict):
        for name, element, below in kind.members({**old, **new}):
            _compare(old.get(name, _ABSENT), new.get(name, _ABSENT), below, (*path, element), found)
    else:
        _compare_entries(_by_element(old, kind), _by_element(new, kind), kind, path, found)
    return False


def _parts(document: Any, structure: FieldStructure) -> dict[str, Any] | list[Any]:
    if structure is FieldStructure.MAP:
        return document if isinstance(document, dict) else {}
    return document if isinstance(document, list) else []


def _compare_entries(
    before: Mapping[str, list[Any]],
    after: Mapping[str, list[Any]],
    kind: FieldType,
    path: Path,
    found: Comparison,
) -> None:
    for element in {**before, **after}:
        old, new = before.get(element, []), after.get(element, [])
        if len(old) <= 1 and len(new) <= 1:
            _compare(
                old[0] if old else _ABSENT,
                new[0] if new else _ABSENT,
                kind.entry(),
                (*path, element),
                found,
            )
        else:
            # Entries with the same key cannot be distinguished, so they count as one value.
            _note(old or _ABSENT, new or _ABSENT, (*path, element), found, leaf=True)


def _note(before: Any, after: Any, path: Path, found: Comparison, *, leaf: bool) -> None:
    if before is _ABSENT:
        found.added.add(path)
    elif after is _ABSENT:
        found.removed.add(path)
    elif leaf and not same(before, after):
        found.modified.add(path)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            same(value, right[name]) for name, value in left.items()
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _merge(live: Any, applied: Any, kind: FieldType) -> Any:
    if live is _ABSENT or applied is _ABSENT:
        return live if applied is _ABSENT else applied
    structure = kind.structure(applied if applied is not None else live)
    if structure is FieldStructure.MAP:
        old = live if isinstance(live, dict) else {}
        new = applied if isinstance(applied, dict) else {}
        if not (old or new):
            return applied
        return {
            name: _merge(old.get(name, _ABSENT), new.get(name, _ABSENT), below)
            for name, _, below in kind.members({**old, **new})
        }
    if structure is FieldStructure.ATOMIC:
        return applied
    there = live if isinstance(live, list) else []
    wanted = applied if isinstance(applied, list) else []
    return _merge_entries(there, wanted, kind) if there or wanted else applied


def _merge_entries(live: Sequence[Any], applied: Sequence[Any], kind: FieldType) -> list[Any]:
    """Entries of both lists, those with the same key merged: in the order of `applied`, with each
    entry that only `live` has at its former place.
    """
    old, new = _by_element(live, kind), _by_element(applied, kind)
    result: list[Any] = []
    for element in _order(
        [kind.element(entry) for entry in live], [kind.element(entry) for entry in applied]
    ):
        there, wanted = old.get(element, []), new.get(element, [])
        if not wanted:
            result += there
        elif len(there) > 1:
            # Duplicates are replaced by the one that is applied.
            result.append(wanted[0])
        else:
            result.append(_merge(there[0] if there else _ABSENT, wanted[0], kind.entry()))
    return result


def _order(live: Sequence[str], applied: Sequence[str]) -> list[str]:
    """The path elements of the merged entries, each once."""
    there, wanted = set(live), set(applied)
    shared = [name for name in applied if name in there]
    result: list[str] = []
    done: set[str] = set()
    at = next_shared = 0

    def put(name: str) -> None:
        if name not in done:
            done.add(name)
            result.append(name)

    for name in applied:
        # Entries that only `live` has keep their place before the next entry that both have.
        while at < len(live) and live[at] != name:
            if live[at] not in wanted:
                put(live[at])
            elif next_shared < len(shared) and live[at] == shared[next_shared]:
                break
            at += 1
            if next_shared >= len(shared) and live[at - 1] in wanted:
                break
        if at < len(live) and live[at] == name:
            at += 1
        put(name)
        if next_shared < len(shared) and shared[next_shared] == name:
            next_shared += 1
    for name in live[at:]:
        if name not in wanted:
            put(name)
    return result


def _remove(
    document: Any, gone: set[Path] | FieldSet, above: set[Path], kind: FieldType, path: Path
) -> Any:
    structure = kind.structure(document)
    if structure is FieldStructure.MAP and isinstance(document, dict):
        kept: dict[str, Any] = {}
        for name, element, below in kind.members(document):
            further = (*path, element)
            if further not in gone:
                kept[name] = (
                    _remove(document[name], gone, above, below, further)
                    if further in above
                    else document[name]
                )
        return kept or None
    if structure in (FieldStructure.SET, FieldStructure.ENTRIES) and isinstance(document, list):
        entries = [(entry, (*path, kind.element(entry))) for entry in document]
        rest = [
            _remove(entry, gone, above, kind.entry(), further) if further in above else entry
            for entry, further in entries
            if further not in gone
        ]
        return rest or None
    return document


def type_mismatch(document: Any, kind: FieldType, path: Path = ()) -> str | None:
    """Why a document does not match the structure of its type, as a message; None if it does.

    Only what these walks rely on is checked: objects where parts have names, and lists whose
    entries can be distinguished. Everything else is checked by validation.
    """
    if document is None or kind.structure(document) is FieldStructure.ATOMIC:
        return None
    if kind.structure(document) is FieldStructure.MAP:
        if not isinstance(document, dict):
            return f"{shown(path)}: expected map, got {_name(document)}"
        found = (
            type_mismatch(document[name], below, (*path, element))
            for name, element, below in kind.members(document)
        )
        return next((each for each in found if each), None)
    if not isinstance(document, list):
        return f"{shown(path)}: expected list, got {_name(document)}"
    seen: set[str] = set()
    for position, entry in enumerate(document):
        element = kind.element(entry)
        if kind.structure(document) is FieldStructure.ENTRIES and not element.startswith("k:"):
            names = ", ".join(f'"{name}"' for name in kind.keys)
            omitted = (
                f"associative list with keys has an element that omits all key fields [{names}]"
            )
            return (
                f"{shown(path)}: element {position}: {omitted} (and doesn't have default values for"
                " any key fields)"
            )
        if element in seen:
            return f"{shown(path)}: duplicate entries for key {shown((element,))}"
        seen.add(element)
        if problem := type_mismatch(entry, kind.entry(), (*path, element)):
            return problem
    return None


def _name(document: Any) -> str:
    for kind, name in ((dict, "map"), (list, "list"), (str, "string"), (bool, "boolean")):
        if isinstance(document, kind):
            return name
    return "number"


def _emptied(whole: Any, kind: FieldType) -> Any:
    if not kind.described or not isinstance(whole, dict | list):
        return None
    return {} if isinstance(whole, dict) else []


def _only(entries: Mapping[str, list[Any]], name: str) -> Any:
    return (entries.get(name) or [None])[0]


def _by_element(entries: Iterable[Any], kind: FieldType) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in entries:
        found.setdefault(kind.element(entry), []).append(entry)
    return found
