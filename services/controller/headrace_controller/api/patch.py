"""What a patch makes of an object: JSON merge patch (RFC 7396) and JSON patch (RFC 6902).

An object and a patch come in, another object goes out; neither is changed, and nothing of either is copied that stays as it was. What
the result may be is not decided here: it passes admission like every other write. Limits keep a small patch from making much work:
operations are counted, and so is what `copy` and `add` let an object grow to, for ten operations can double it ten times.
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.codec.objects import DEPTH_MAX, VALUES_MAX
from headrace_controller.api.statuses import StatusError, bad_request, failure, too_large

OPERATIONS_MAX = 10_000
"""Operations of one JSON patch, as in Kubernetes."""
_POINTER_MAX = 64
"""Steps of a JSON pointer: as deep as an object may be."""


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396): null removes, objects merge, all else replaces. Raises StatusError past the depth limit."""
    return _merged(target, patch, 0)


def patched(document: Mapping[str, Any], operations: Any) -> dict[str, Any]:
    """Apply a JSON patch (RFC 6902), all of it or nothing.

    Raises StatusError: 400 for what is no list, 413 for too many operations or a result that is too large, 422 for an operation that is
    none or that the object does not allow (a path that is not there, a failed test).
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > OPERATIONS_MAX:
        raise too_large(f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(operations)}")
    whole: Any = dict(document)
    budget = VALUES_MAX
    for operation in operations:
        verb, path, act = _operation(operation)
        if verb in ("add", "replace", "copy"):
            budget -= _count(_value(operation) if verb != "copy" else _at(whole, _pointer(operation.get("from"), "from"), verb))
            if budget < 0:
                raise too_large(f"the patch adds more than {VALUES_MAX} values; send fewer, or the object itself")
        whole = act(whole, path, operation)
    if not isinstance(whole, dict):
        raise _refused("the result of the patch is not an object")
    return whole


def _merged(target: Any, patch: Any, depth: int) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    if depth > DEPTH_MAX:
        raise bad_request(f"the patch nests deeper than {DEPTH_MAX} levels")
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value, depth + 1)
    return result


Act = Callable[[Any, tuple[str, ...], Mapping[str, Any]], Any]


def _operation(operation: Any) -> tuple[str, tuple[str, ...], Act]:
    if not isinstance(operation, Mapping):
        raise _refused("an operation is an object with op and path")
    verb = operation.get("op")
    act = _ACTS.get(verb) if isinstance(verb, str) else None
    if act is None:
        raise _refused(f"Unexpected kind: {verb!s:.40}; use add, remove, replace, move, copy or test")
    return str(verb), _pointer(operation.get("path"), "path"), act


def _add(whole: Any, path: tuple[str, ...], operation: Mapping[str, Any]) -> Any:
    return _put(whole, path, _value(operation), insert=True)


def _replace(whole: Any, path: tuple[str, ...], operation: Mapping[str, Any]) -> Any:
    # Like the Kubernetes API, and unlike RFC 6902: a field that is not there is added, for scripts rely on it. Its parent must be there.
    _at(whole, path[:-1], "replace")
    return _put(whole, path, _value(operation), insert=False)


def _remove(whole: Any, path: tuple[str, ...], operation: Mapping[str, Any]) -> Any:
    _at(whole, path, str(operation["op"]))
    return _cut(whole, path)


def _move(whole: Any, path: tuple[str, ...], operation: Mapping[str, Any]) -> Any:
    source = _pointer(operation.get("from"), "from")
    value = _at(whole, source, "move")
    if path == source:
        return whole
    if path[: len(source)] == source:
        raise _refused(f"move operation: {_shown(source)} cannot be moved into itself")
    return _put(_cut(whole, source), path, value, insert=True)


def _copy(whole: Any, path: tuple[str, ...], operation: Mapping[str, Any]) -> Any:
    # Nothing is changed in place, so the copy may share what it copies.
    return _put(whole, path, _at(whole, _pointer(operation.get("from"), "from"), "copy"), insert=True)


def _test(whole: Any, path: tuple[str, ...], operation: Mapping[str, Any]) -> Any:
    try:
        found = _at(whole, path, "test")
    except StatusError:
        # A path that is not there counts as null, as in the library the Kubernetes API uses: guards of the form "is it unset" rely on it.
        found = None
    if not _equal(found, _value(operation)):
        raise _refused(f"testing path {_shown(path)} failed: test failed")
    return whole


_ACTS: Mapping[str, Act] = {"add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test}


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise _refused(f"{operation['op']} operation: a value is needed")
    return operation["value"]


def _pointer(text: Any, field: str) -> tuple[str, ...]:
    """A JSON pointer (RFC 6901) as its steps; empty for the whole document."""
    if not isinstance(text, str):
        raise _refused(f"{field} must be a JSON pointer")
    if text == "":
        return ()
    if not text.startswith("/"):
        raise _refused(f'{field} "{text[:300]}" must begin with "/"')
    steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))
    if len(steps) > _POINTER_MAX:
        raise _refused(f"{field} has {len(steps)} steps; at most {_POINTER_MAX} are followed")
    return steps


def _at(whole: Any, path: tuple[str, ...], verb: str) -> Any:
    value = whole
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and (index := _index(step, len(value))) is not None and index < len(value):
            value = value[index]
        else:
            raise _refused(f"{verb} operation does not apply: doc is missing path: {_shown(path)}: missing value")
    return value


def _put(whole: Any, path: tuple[str, ...], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(whole, Mapping):
        if rest and step not in whole:
            raise _refused(f"add operation does not apply: doc is missing path: {_shown(path)}: missing value")
        return {**whole, step: _put(whole.get(step), rest, value, insert=insert)}
    if isinstance(whole, list):
        index = len(whole) if step == "-" and insert and not rest else _index(step, len(whole))
        if index is None or index > len(whole) - (bool(rest) or not insert):
            raise _refused(f"add operation does not apply: Unable to access invalid index: {step[:40]}: invalid index referenced")
        kept = index if insert and not rest else index + 1
        return [*whole[:index], _put(whole[index] if kept > index else None, rest, value, insert=insert), *whole[kept:]]
    raise _refused(f"add operation does not apply: doc is missing path: {_shown(path)}: missing value")


def _cut(whole: Any, path: tuple[str, ...]) -> Any:
    if not path:
        raise _refused("remove operation: the whole object cannot be removed")
    step, rest = path[0], path[1:]
    if isinstance(whole, list):
        index = int(step)
        return [*whole[:index], *([_cut(whole[index], rest)] if rest else []), *whole[index + 1 :]]
    if rest:
        return {**whole, step: _cut(whole[step], rest)}
    return {key: value for key, value in whole.items() if key != step}


def _index(step: str, length: int) -> int | None:
    # RFC 6901, 4: digits without leading zeros. A negative index is no index.
    if not (step.isascii() and step.isdecimal()) or (step[0] == "0" and step != "0") or len(step) > 9:
        return None
    index = int(step)
    return index if index <= length else None


def _equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: 1 is 1.0 and not true (RFC 6902, 4.6)."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _count(value: Any) -> int:
    waiting = [value]
    count = 0
    while waiting:
        each = waiting.pop()
        count += 1
        if count > VALUES_MAX:
            break
        if isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return count


def _shown(path: tuple[str, ...]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)[:300]


def _refused(message: str) -> StatusError:
    return failure(422, "Invalid", f"the server rejected our request due to an error in our request: {message}", {})
