"""JSON merge patch (RFC 7396) and JSON patch (RFC 6902).

A patch applied to an object returns a new object; neither is changed. The result is not validated
here: it passes admission like every other write. Limits keep a small patch from causing much work:
the number of operations is limited, and so is what they copy.
"""

from collections.abc import Mapping
from typing import Any

from headrace.codec.objects import DEPTH_MAX, VALUES_MAX
from headrace_apiserver.patching.typed_values import same
from headrace_apiserver.statuses import StatusError, bad_request, failure, too_large

OPERATIONS_MAX = 10_000
"""Operations of one JSON patch, as in Kubernetes."""
_POINTER_MAX = 64
"""Steps of a JSON pointer: as deep as an object may be."""


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396): null removes, objects merge, all other values replace.
    Raises StatusError past the depth limit.
    """
    return _merged(target, patch, 0)


def patched(document: Mapping[str, Any], operations: Any) -> dict[str, Any]:
    """Apply a JSON patch (RFC 6902), completely or not at all.

    Raises StatusError: 400 if it is not a list, 413 for too many operations or a result that is too
    large, 422 for an invalid operation or one that does not apply to the object (a missing path, a
    failed test).
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > OPERATIONS_MAX:
        raise too_large(
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got"
            f" {len(operations)}"
        )
    work = _PatchedDocument(document)
    for operation in operations:
        work.perform(operation)
    if not isinstance(work.whole, dict):
        raise _refused("the result of the patch is not an object")
    return work.whole


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


class _PatchedDocument:
    """The document during the operations of a JSON patch: a copy on write, so that an operation
    costs what it touches and not the size of the document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._budget = 2 * VALUES_MAX
        self.whole: Any = self._copied(document, 0)

    def perform(self, operation: Any) -> None:
        """Perform one operation; raises StatusError."""
        if not isinstance(operation, Mapping):
            raise _refused("an operation is an object with op and path")
        path = _pointer(operation.get("path"), "path")
        match operation.get("op"):
            case "add":
                self._put(path, self._copied(_value(operation), len(path)), "add", insert=True)
            case "replace":
                # As in the Kubernetes API, and unlike RFC 6902, a missing field is added, because
                # scripts rely on it.
                self._put(path, self._copied(_value(operation), len(path)), "replace", insert=False)
            case "remove":
                self._take(path, "remove")
            case "move":
                self._move(_pointer(operation.get("from"), "from"), path)
            case "copy":
                self._put(
                    path,
                    self._copied(
                        self._at(_pointer(operation.get("from"), "from"), "copy"), len(path)
                    ),
                    "copy",
                    insert=True,
                )
            case "test":
                self._test(path, _value(operation))
            case verb:
                raise _refused(
                    f"Unexpected kind: {verb!s:.40}; use add, remove, replace, move, copy or test"
                )

    def _move(self, source: tuple[str, ...], path: tuple[str, ...]) -> None:
        value = self._at(source, "move")
        if path == source:
            return
        if path[: len(source)] == source:
            raise _refused(f"move operation: {_shown(source)} cannot be moved into itself")
        # Copied, because `_copied` checks depth and cost.
        value = self._copied(value, len(path))
        self._take(source, "move")
        self._put(path, value, "move", insert=True)

    def _test(self, path: tuple[str, ...], wanted: Any) -> None:
        try:
            found = self._at(path, "test")
        except StatusError:
            # A missing path counts as null, as in the Kubernetes API: guards of the form "is it
            # unset" rely on it.
            found = None
        if not same(found, wanted):
            raise _refused(f"testing path {_shown(path)} failed: test failed")

    def _at(self, path: tuple[str, ...], verb: str) -> Any:
        value = self.whole
        for step in path:
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and (index := _index(step, len(value) - 1)) is not None:
                value = value[index]
            else:
                raise _missing(path, verb)
        return value

    def _put(self, path: tuple[str, ...], value: Any, verb: str, *, insert: bool) -> None:
        if not path:
            self.whole = value
            return
        step, parent = path[-1], self._at(path[:-1], verb)
        if isinstance(parent, dict):
            parent[step] = value
        elif not isinstance(parent, list):
            raise _missing(path, verb)
        elif insert and step == "-":
            parent.append(value)
        elif (index := _index(step, len(parent) - (not insert))) is None:
            raise _refused(
                f"{verb} operation does not apply: Unable to access invalid index: {step[:40]}:"
                " invalid index referenced"
            )
        elif insert:
            parent.insert(index, value)
        else:
            parent[index] = value

    def _take(self, path: tuple[str, ...], verb: str) -> None:
        if not path:
            raise _refused(f"{verb} operation: the whole object cannot be removed")
        self._at(path, verb)
        parent = self._at(path[:-1], verb)
        del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]

    def _copied(self, value: Any, depth: int) -> Any:
        """A copy for a value at this depth, charged to the budget: copies of copies would otherwise
        double an object each time.
        """
        self._budget -= 1
        if self._budget < 0:
            raise too_large(
                f"the patch adds more than {VALUES_MAX} values; send fewer, or the object itself"
            )
        if depth > DEPTH_MAX:
            raise _refused(f"the result nests deeper than {DEPTH_MAX} levels")
        if isinstance(value, Mapping):
            return {name: self._copied(each, depth + 1) for name, each in value.items()}
        if isinstance(value, list):
            return [self._copied(each, depth + 1) for each in value]
        return value


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise _refused(f"{operation['op']} operation: a value is needed")
    return operation["value"]


def _pointer(text: Any, field: str) -> tuple[str, ...]:
    """The steps of a JSON pointer (RFC 6901); empty for the whole document."""
    if not isinstance(text, str):
        raise _refused(f"{field} must be a JSON pointer")
    if text == "":
        return ()
    if not text.startswith("/"):
        raise _refused(f'{field} "{text[:300]}" must start with "/"')
    steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))
    if len(steps) > _POINTER_MAX:
        raise _refused(f"{field} has {len(steps)} steps; at most {_POINTER_MAX} are followed")
    return steps


def _index(step: str, last: int) -> int | None:
    # RFC 6901, section 4: digits without leading zeros. A negative number is not an index.
    if (
        not (step.isascii() and step.isdecimal())
        or (step[0] == "0" and step != "0")
        or len(step) > 9
    ):
        return None
    index = int(step)
    return index if index <= last else None


def _missing(path: tuple[str, ...], verb: str) -> StatusError:
    return _refused(
        f"{verb} operation does not apply: doc is missing path: {_shown(path)}: missing value"
    )


def _shown(path: tuple[str, ...]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)[:300]


def _refused(message: str) -> StatusError:
    return failure(
        422,
        "Invalid",
        f"the server rejected our request due to an error in our request: {message}",
        {},
    )
