"""The scale subresource, for kinds whose definition has the paths of their replicas. (pure)"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace_apiserver.kinds.catalog import ServedKind
from headrace_apiserver.statuses import bad_request, no_such_path

API_VERSION = "autoscaling/v1"


def scale_of(served: ServedKind, document: Mapping[str, Any]) -> dict[str, Any]:
    """The Scale of an object. Raises StatusError 404 if the kind has none."""
    paths = _paths(served)
    metadata = document["metadata"]
    kept = {
        name: metadata[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in metadata
    }
    status: dict[str, Any] = {
        "replicas": _number(_at(document, _steps(paths["statusReplicasPath"])))
    }
    selector = paths.get("labelSelectorPath")
    if selector and (text := _at(document, _steps(selector))):
        status["selector"] = str(text)
    spec = {"replicas": _number(_at(document, _steps(paths["specReplicasPath"])))}
    return {
        "kind": "Scale",
        "apiVersion": API_VERSION,
        "metadata": kept,
        "spec": spec,
        "status": status,
    }


def change_of_scale(
    served: ServedKind, scale: Mapping[str, Any]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function from an object to the same with the replicas of `scale`. Raises StatusError 400 or
    404.
    """
    steps = _steps(_paths(served)["specReplicasPath"])
    wanted = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        raise bad_request("spec.replicas: Invalid value: must be a whole number of 0 or more")
    version = (scale.get("metadata") or {}).get("resourceVersion")

    def change(document: Mapping[str, Any]) -> dict[str, Any]:
        changed = _put(document, steps, wanted)
        if version:
            changed["metadata"] = {**changed["metadata"], "resourceVersion": version}
        return changed

    return change


def _paths(served: ServedKind) -> Mapping[str, str]:
    if served.scale is None:
        raise no_such_path()
    return served.scale


def _steps(path: str) -> list[str]:
    return [step for step in path.split(".") if step]


def _at(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = document.get(step) if isinstance(document, Mapping) else None
    return document


def _put(document: Any, steps: list[str], value: Any) -> dict[str, Any]:
    changed = dict(document) if isinstance(document, Mapping) else {}
    first, rest = steps[0], steps[1:]
    changed[first] = _put(changed.get(first), rest, value) if rest else value
    return changed


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
