"""One request about a served kind: what it asks for, who asks, and the form of the response."""

from dataclasses import dataclass, field

from fastapi import Request

from headrace.resources.resource import ResourceKind
from headrace_apiserver.authentication import User
from headrace_apiserver.kinds.catalog import ServedKind
from headrace_apiserver.requests.request_info import RequestInfo
from headrace_apiserver.responses import (
    ResponseFormat,
    ResponseFormatter,
    negotiate_representation,
)
from headrace_apiserver.tables.table import read_included


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestScope:
    """What handlers, registry and admission know of a request."""

    request: Request
    info: RequestInfo
    served: ServedKind
    user: User
    formatter: ResponseFormatter
    warnings: list[str] = field(default_factory=list)
    """Warnings for the client; they become `Warning` headers of the response."""
    held_seconds: float = 0.0
    """How long a write has waited until this controller became the leader."""

    @property
    def kind(self) -> ResourceKind:
        """The kind in the version of the request."""
        return self.served.kind

    @property
    def selectable(self) -> list[str]:
        """Fields that a field selector may name besides those of metadata."""
        return [path.lstrip(".") for path in self.served.selectable]

    @property
    def namespace(self) -> str:
        """The namespace in the path, empty if there is none."""
        return self.info.namespace or ""

    @property
    def agent(self) -> str:
        """The User-Agent header."""
        return self.request.headers.get("user-agent", "")

    def is_of(self, kind: ResourceKind) -> bool:
        """Whether the request is about objects of `kind`, in whatever version."""
        return self.served.key == (kind.group, kind.plural)

    def format(self) -> ResponseFormat:
        """The form of the response. Raises StatusError 400 or 406."""
        form = negotiate_representation(self.request.headers.get("accept", ""))
        return ResponseFormat(form, read_included(self.request.query_params.get("includeObject")))
