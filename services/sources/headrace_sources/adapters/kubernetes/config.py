"""The configuration of the adapter `kubernetes`."""

from typing import Annotated, Any

from pydantic import Field

from headrace_sources.adapters.kubernetes.events import Mode
from headrace_sources.source import SourceConfig


class OwnerKind(SourceConfig):
    """The kind of the controller that owns the objects."""

    api_version: str
    kind: str


class WatchedKind(SourceConfig):
    """One kind of objects."""

    api_version: str
    kind: str
    selector: str = ""
    """Label selector in the form of the API's `labelSelector` parameter."""


class KubernetesConfig(SourceConfig):
    """What is followed, as whom, and what an event carries."""

    resources: Annotated[tuple[WatchedKind, ...], Field(min_length=1, max_length=64)]
    mode: Mode = Mode.REFERENCE
    owner: OwnerKind | None = None
    namespace: str = ""
    """The namespace of the objects; empty for that of the source."""
    namespace_selector: str | None = None
    """Label selector of the namespaces, the empty one for all of them; None for one namespace."""
    service_account_name: str = ""
    filters: tuple[dict[str, Any], ...] = ()
    """Of a Trigger's `filters`; all must pass."""
