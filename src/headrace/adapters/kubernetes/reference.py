"""From a reference in a manifest (apiVersion, kind) to the kind behind it, without asking the server."""

from functools import lru_cache

from headrace.domain.resources import ResourceKind


@lru_cache(maxsize=1024)
def kind_of_reference(api_version: str, kind: str) -> ResourceKind:
    """The kind, its plural guessed the way Kubernetes' own tools guess it (and Knative's resolver with them)."""
    group, _, version = api_version.rpartition("/")
    return ResourceKind(group=group, version=version, kind=kind, plural=guess_plural(kind), singular=kind.lower(), served=False)


def guess_plural(kind: str) -> str:
    """`Broker` → `brokers`, `EventPolicy` → `eventpolicies`, `Ingress` → `ingresses`."""
    word = kind.lower()
    if word.endswith("s"):
        return f"{word}es"
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    return f"{word}s"
