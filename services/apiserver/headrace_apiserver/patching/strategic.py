"""Strategic merge patch for objects of core kinds: a merge patch that can change single elements of
lists.

kubectl sends it for kinds whose Go types it knows. Such a list has a key that identifies its
elements, or is a set; a patch then names the elements to change, and directives (names that start
with `$`) say what else to do: delete this one, replace all, use this order. The keys are those of
the Go types in Kubernetes; lists that are not named here are replaced as a whole, as in a cluster.
(pure)
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.codec.objects import DEPTH_MAX
from headrace.resources.resource import ResourceKind
from headrace_apiserver.statuses import bad_request

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_REMOVE = "$deleteFromPrimitiveList/"

Path = tuple[str, ...]

_SET = ""
_COMMON: Mapping[Path, str] = {
    ("metadata", "finalizers"): _SET,
    ("metadata", "ownerReferences"): "uid",
}
_KEYS: Mapping[tuple[str, str], Mapping[Path, str]] = {
    ("", "Namespace"): {("status", "conditions"): "type"},
    ("", "Service"): {("spec", "ports"): "port", ("status", "conditions"): "type"},
    ("", "ServiceAccount"): {("secrets",): "name", ("imagePullSecrets",): "name"},
}
"""By kind and path of a list, the field that identifies an element; `_SET` for a list of unique
texts.
"""
_ALSO = {"port": "protocol"}
"""A field that distinguishes elements with the same key, if the patch sets it: DNS has port 53
twice.
"""


def strategically_merged(
    kind: ResourceKind, target: Mapping[str, Any], patch: Mapping[str, Any]
) -> dict[str, Any]:
    """Apply a strategic merge patch to an object of a core kind. Raises StatusError 400 for invalid
    directives, and past the depth limit.
    """
    return _Merge({**_COMMON, **_KEYS.get((kind.group, kind.kind), {})}).object(target, patch, ())


def has_directives(patch: Any) -> bool:
    """Whether a patch contains directives, so that it differs from a merge patch of the
    same text.
    """
    waiting = deque((patch,))
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if any(map(_is_directive, value)):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


class _Merge:
    """The application of one patch."""

    def __init__(self, keys: Mapping[Path, str]) -> None:
        self._keys = keys

    def object(
        self, target: Mapping[str, Any], patch: Mapping[str, Any], path: Path
    ) -> dict[str, Any]:
        """An object, merged with the patch for it."""
        if len(path) > DEPTH_MAX:
            raise bad_request(f"the patch nests deeper than {DEPTH_MAX} levels")
        how = patch.get(_PATCH, "merge")
        if how not in ("merge", "replace", "delete"):
            raise bad_request(
                f'{_PATCH}: Unsupported value: "{how!s:.40}":'
                ' supported values: "delete", "merge", "replace"'
            )
        if how == "delete":
            return {}
        result = _retained(target, patch) if how == "merge" else {}
        for name, value in patch.items():
            if _is_directive(name):
                continue
            if value is None:
                result.pop(name, None)
            else:
                result[name] = self._value(result.get(name), value, (*path, name))
        for field, items in _lists(patch, _REMOVE):
            found = result.get(field)
            if isinstance(found, list):
                gone = {each for each in items if isinstance(each, str)}
                result[field] = [
                    each for each in found if not (isinstance(each, str) and each in gone)
                ]
        for field, items in _lists(patch, _ORDER):
            key, found = self._keys.get((*path, field)), result.get(field)
            if key is not None and isinstance(found, list):
                before = target.get(field)
                result[field] = _ordered(
                    found, items, key, before if isinstance(before, list) else []
                )
        return result

    def _value(self, target: Any, patch: Any, path: Path) -> Any:
        if isinstance(patch, Mapping):
            return self.object(target if isinstance(target, Mapping) else {}, patch, path)
        if not isinstance(patch, list):
            return patch
        key = self._keys.get(path)
        if key is None or any(_says(each, "replace") for each in patch):
            return [self._value(None, each, (*path, "")) for each in patch if not _is_marker(each)]
        before = target if isinstance(target, list) else []
        if key == _SET:
            # As keys of a dict: each once, existing elements first.
            return list(dict.fromkeys([*_texts(before, path), *_texts(patch, path)]))
        return self._elements(before, patch, path, key)

    def _elements(
        self, before: Sequence[Any], patch: Sequence[Any], path: Path, key: str
    ) -> list[Any]:
        """A list whose elements have a key. Each element takes one element of the patch, so that
        the work grows with the patch only.
        """
        result: list[Any] = list(before)
        places = _ElementIndex(before, key)
        gone: set[int] = set()
        for wanted in patch:
            if _identity(wanted, key) is None:
                raise bad_request(
                    f"{'.'.join(path)}: an element of the patch does not contain declared merge"
                    f" key: {key}"
                )
            if _says(wanted, "delete"):
                gone.update(places.deleted(wanted))
            elif (place := places.taken(wanted)) is not None:
                result[place] = self.object(result[place], wanted, (*path, ""))
            else:
                result.append(self.object({}, wanted, (*path, "")))
        return [each for place, each in enumerate(result) if place not in gone]


class _ElementIndex:
    """The positions of the elements of a list, by key. Each position is visited a few times at
    most, however often a key is repeated.
    """

    def __init__(self, elements: Sequence[Any], key: str) -> None:
        self._key = key
        self._also = _ALSO.get(key, "")
        self._by_name: dict[Any, deque[int]] = {}
        self._by_both: dict[Any, deque[int]] = {}
        self._taken: set[int] = set()
        self._deleted: set[Any] = set()
        for place, each in enumerate(elements):
            name = _identity(each, key)
            self._by_name.setdefault(name, deque()).append(place)
            if self._also and name is not None:
                self._by_both.setdefault((name, _plain(each.get(self._also))), deque()).append(
                    place
                )

    def taken(self, wanted: Mapping[str, Any]) -> int | None:
        """The position of the element that an element of the patch changes; no other patch element
        gets it then. None if there is none.
        """
        name = _identity(wanted, self._key)
        exact = (
            self._next(self._by_both.get((name, _plain(wanted[self._also]))))
            if self._asks_both(wanted)
            else None
        )
        place = exact if exact is not None else self._next(self._by_name.get(name))
        if place is not None:
            self._taken.add(place)
        return place

    def deleted(self, wanted: Mapping[str, Any]) -> list[int]:
        """The positions that an element of the patch deletes, each once."""
        name = _identity(wanted, self._key)
        both = (name, _plain(wanted[self._also])) if self._asks_both(wanted) else None
        if (name, both) in self._deleted:
            return []
        self._deleted.add((name, both))
        there = self._by_name.get(name) if both is None else self._by_both.get(both)
        return [place for place in there or () if place not in self._taken]

    def _asks_both(self, wanted: Mapping[str, Any]) -> bool:
        return bool(self._also) and self._also in wanted

    def _next(self, places: deque[int] | None) -> int | None:
        while places and places[0] in self._taken:
            places.popleft()
        return places[0] if places else None


def _is_directive(name: str) -> bool:
    return name in (_PATCH, _RETAIN) or name.startswith((_ORDER, _REMOVE))


def _says(element: Any, how: str) -> bool:
    return isinstance(element, Mapping) and element.get(_PATCH) == how


def _is_marker(element: Any) -> bool:
    """Whether an element of a patch's list is a directive for the list instead of an element."""
    return _says(element, "delete") or (_says(element, "replace") and len(element) == 1)


def _retained(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    if _RETAIN not in patch:
        return dict(target)
    kept = patch[_RETAIN]
    if not isinstance(kept, list) or not all(isinstance(each, str) for each in kept):
        raise bad_request(f"{_RETAIN}: must be a list of field names")
    names = set(kept)
    for name in patch:
        if name not in names and not _is_directive(name):
            raise bad_request(f"{_RETAIN}: must name {name[:100]}, which the patch sets")
    return {name: value for name, value in target.items() if name in names}


def _lists(patch: Mapping[str, Any], directive: str) -> Iterator[tuple[str, list[Any]]]:
    """The directives of this kind: the name of the field, and the list."""
    for name, value in patch.items():
        if name.startswith(directive):
            if not isinstance(value, list):
                raise bad_request(f"{name[:100]}: must be a list")
            yield name.removeprefix(directive), value


def _texts(values: Sequence[Any], path: Path) -> Sequence[str]:
    if not all(isinstance(each, str) for each in values):
        raise bad_request(f"{'.'.join(path)}: must be a list of strings")
    return values


def _identity(element: Any, key: str) -> Any:
    found = element if key == _SET else element.get(key) if isinstance(element, Mapping) else None
    return found if isinstance(found, str | int) else None


def _plain(value: Any) -> Any:
    """A value that can be used as a key; a value that is neither text nor number equals no
    other.
    """
    return value if value is None or isinstance(value, str | int) else id(value)


def _ordered(
    found: Sequence[Any], order: Sequence[Any], key: str, before: Sequence[Any]
) -> list[Any]:
    """The elements in the wanted order. An element that it does not name, because the client has
    not seen it, keeps its place among the others.
    """
    rank = {_identity(each, key): place for place, each in reversed(list(enumerate(order)))}
    stood = {_identity(each, key): place for place, each in reversed(list(enumerate(before)))}
    named = deque(
        sorted(
            (each for each in found if _identity(each, key) in rank),
            key=lambda each: rank[_identity(each, key)],
        )
    )
    others = deque(each for each in found if _identity(each, key) not in rank)
    result: list[Any] = []
    while named and others:
        first, other = stood.get(_identity(named[0], key)), stood.get(_identity(others[0], key))
        earlier = first is not None and other is not None and first < other
        result.append((named if earlier else others).popleft())
    return [*result, *named, *others]
