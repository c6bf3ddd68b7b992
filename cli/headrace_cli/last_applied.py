"""The annotation from which `kubectl apply` (client-side) continues: the configuration that was
applied last. Without it kubectl warns, and cannot remove a field that is no longer in the file.

The text is the one that kubectl writes, so that an apply of the same file changes nothing.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
BYTES_MAX: Final = 200_000
"""All annotations of an object together have at most 262,144 bytes."""
_ESCAPED = {ord(each): f"\\u{ord(each):04x}" for each in "&<>\u2028\u2029"}
"""What kubectl's JSON escapes beside what JSON requires."""
_SECRET = ("v1", "Secret")


def last_applied(
    document: Mapping[str, Any], namespace: str, stored: Mapping[str, Any], *, created: bool
) -> Mapping[str, Any] | None:
    """Return the merge patch that brings the annotation of a stored object up to date after the
    document was applied; None if nothing has to change. `namespace` is empty for a kind without
    namespaces.

    An object that others created without the annotation does not get it, and a Secret does not: it
    would be a copy of its values. Fields of an earlier annotation that are still in the object stay
    in it: others own them, and kubectl removes only what the annotation has.
    """
    now = (stored["metadata"].get("annotations") or {}).get(ANNOTATION)
    if now is None and (not created or (stored["apiVersion"], stored["kind"]) == _SECRET):
        return None
    text = _text(_with_earlier(_configuration(document, namespace), _parsed(now), stored))
    wanted = text if len(text.encode()) <= BYTES_MAX else None
    return None if wanted == now else {"metadata": {"annotations": {ANNOTATION: wanted}}}


def _configuration(document: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    metadata = {**document["metadata"], **({"namespace": namespace} if namespace else {})}
    annotations = metadata.get("annotations")
    metadata["annotations"] = {
        name: value
        for name, value in (annotations.items() if isinstance(annotations, Mapping) else ())
        if name != ANNOTATION
    }
    return {**document, "metadata": metadata}


def _parsed(annotation: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(annotation or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_earlier(
    document: Mapping[str, Any], earlier: Mapping[str, Any], stored: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The document, and what `earlier` has beside it that is still stored."""
    found = dict(document)
    for name, value in earlier.items():
        ours, live = document.get(name), stored.get(name)
        if isinstance(value, Mapping) and isinstance(live, Mapping):
            if ours is None or isinstance(ours, Mapping):
                found[name] = _with_earlier(ours or {}, value, live)
        elif name not in document and name in stored:
            found[name] = value
    return found


def _text(configuration: Mapping[str, Any]) -> str:
    text = json.dumps(configuration, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.translate(_ESCAPED) + "\n"
