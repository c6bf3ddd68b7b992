"""One request on its way through the doors: what it is about, who asks, and how the answer shall
look.
"""

from dataclasses import dataclass, field

from fastapi import Request

from headrace.resources.resource import ResourceKind
from headrace_apiserver.authentication import User
from headrace_apiserver.handlers.responses import (
    ResponseFormat,
    ResponseFormatter,
    negotiate_representation,
)
from headrace_apiserver.kinds.catalog import ServedKind
from headrace_apiserver.requests.request_info import RequestInfo
from headrace_apiserver.tables.table import read_included


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestScope:
    """A request about a served kind."""

    request: Request
    info: RequestInfo
    served: ServedKind
    user: User
    formatter: ResponseFormatter
    warnings: list[str] = field(default_factory=list)
    """What the client shall be told beside the answer; the doors add to it."""

    held_seconds: float = 0.0
    """How long a write has waited for this controller to write."""

    @property
    def kind(self) -> ResourceKind:
        """The kind, in the version of the request."""
        return self.served.kind

    @property
    def selectable(self) -> list[str]:
        """Fields that a selector may name besides metadata's."""
        return [path.lstrip(".") for path in self.served.selectable]

    @property
    def namespace(self) -> str:
        """The namespace of the path, empty where there is none."""
        return self.info.namespace or ""

    @property
    def agent(self) -> str:
        """What program asks, as it says."""
        return self.request.headers.get("user-agent", "")

    def format(self) -> ResponseFormat:
        """How the answer shall look. Raises StatusError 400 or 406."""
        form = negotiate_representation(self.request.headers.get("accept", ""))
        return ResponseFormat(form, read_included(self.request.query_params.get("includeObject")))
