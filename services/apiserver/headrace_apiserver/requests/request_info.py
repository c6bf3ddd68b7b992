"""Parses paths of the API: group, version, kind, namespace, object, subresource. (pure)

The paths are those of the Kubernetes API. One parser serves all kinds, because kinds are data.
"""

from collections.abc import Sequence
from typing import NamedTuple

NAMESPACES = "namespaces"
_OF_NAMESPACES = frozenset(("status", "finalize"))
"""Subresources of namespaces: after `/namespaces/<name>` these are not kinds."""


class RequestInfo(NamedTuple):
    """The parts of a path. An empty name means the collection; `namespace` None means all
    namespaces, or a kind without namespaces.
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
    """Parse the rest of a path after `/apis/<group>/<version>/`, or after `/api/<version>/` with an
    empty group; None if it is not the path of a kind.
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
