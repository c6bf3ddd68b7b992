"""What a path of the API names: group, version, kind, namespace, object, subresource.

The paths are those of the Kubernetes API; one reader for all of them, since which kinds there are
is data. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

NAMESPACES = "namespaces"
_OF_NAMESPACES = frozenset(("status", "finalize"))
"""What may follow `/namespaces/<name>` without being a kind."""


class RequestInfo(NamedTuple):
    """What a request is about. An empty name is a collection; `namespace` None is all namespaces,
    or a kind without.
    """

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str = ""
    subresource: str = ""

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for core kinds."""
        return f"{self.group}/{self.version}" if self.group else self.version


def parse_request_info(group: str, version: str, rest: str) -> RequestInfo | None:
    """Read what follows `/apis/<group>/<version>/` (or `/api/<version>/`, group empty); None when
    it is no path of a kind.
    """
    parts: Sequence[str] = rest.removesuffix("/").split("/")
    if not all(parts):
        return None
    namespace = None
    if parts[0] == NAMESPACES and len(parts) > 2 and parts[2] not in _OF_NAMESPACES:
        namespace, parts = parts[1], parts[2:]
    if len(parts) > 3:
        return None
    return RequestInfo(group, version, parts[0], namespace, *parts[1:])
