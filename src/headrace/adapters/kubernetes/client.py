"""Calls to a Kubernetes API server that the controller needs, on objects as JSON. Errors of the
library are converted to Headrace's errors.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2
from lightkube import ApiError, AsyncClient
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource
from lightkube.types import PatchType

from headrace.adapters.kubernetes.connection import open_client
from headrace.domain.errors import Conflict, NotFound, Permanent, Temporary
from headrace.resources.resource import AlreadyExists, NamespaceTerminating, Resource, ResourceKind
from headrace.resources.server_side_apply import FIELD_MANAGER

PAGE = 500
_NOT_TYPED = "failed to create typed patch object"
"""How a server refuses an object that is applied and does not fit the schema, with status 500."""
WATCH_SECONDS = 300
"""How long the server keeps a watch open; a watch without events for longer is closed, because its
connection may be dead.
"""
_GRACE_SECONDS = 30.0
_GONE = 410
_VERBS = ("delete", "get", "global_list", "global_watch", "list", "patch", "post", "put", "watch")


class ApiServerUnavailable(Temporary):
    """The API server did not answer, or is unavailable at the moment."""


class AccessDenied(Permanent):
    """The API server does not allow this controller to do that; the message names the verb and the
    kind.
    """


class ResourceVersionExpired(Temporary):
    """The API server no longer has the changes since this resourceVersion; list again."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """An event of a watch: the object as it is now, or its last state if it was deleted."""

    resource: Resource
    deleted: bool


def connect(kubeconfig: Path | None = None, *, context: str | None = None) -> "KubernetesClient":
    """Return a client for this kubeconfig. Without one, uses the pod's service account, or else
    $KUBECONFIG or the user's default kubeconfig. Raises Permanent.
    """
    client, server = open_client(kubeconfig, context=context, field_manager=FIELD_MANAGER)
    return KubernetesClient(client, server=server)


class KubernetesClient:
    """Client of one API server. Every call ends within `CALL_SECONDS`.

    Raises ApiServerUnavailable if it may work later, AccessDenied if RBAC does not allow it,
    NotFound, Conflict, AlreadyExists, and Permanent with the server's message if it refuses the
    object.
    """

    def __init__(self, client: AsyncClient, *, server: str) -> None:
        self._client = client
        self.server = server

    async def list(
        self, kind: ResourceKind, namespace: str | None
    ) -> tuple[Sequence[Resource], str]:
        """Return all objects of a kind and the version to watch from. If `namespace` is None, lists
        all namespaces.
        """
        with _converted_errors(f"list {kind.qualified}", needs=_required_rule(kind)):
            found = self._client.list(_class(kind), **_list_scope(kind, namespace), chunk_size=PAGE)
            items = [_resource(kind, each) async for each in found]
            return items, found.resourceVersion

    async def watch(
        self, kind: ResourceKind, namespace: str | None, version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after `version`. Ends when the watch times out. Raises
        ResourceVersionExpired.
        """
        with _converted_errors(f"watch {kind.qualified}", needs=_required_rule(kind)):
            # An asynchronous generator: it has to be closed to close its connection.
            events: AsyncGenerator[tuple[str, Any], None] = self._client.watch(  # type: ignore[assignment]
                _class(kind),
                **_list_scope(kind, namespace),
                resource_version=version,
                server_timeout=WATCH_SECONDS,
            )
            async with aclosing(events) as stream:
                while True:
                    try:
                        async with asyncio.timeout(WATCH_SECONDS + _GRACE_SECONDS):
                            type_, each = await anext(stream)
                    except (StopAsyncIteration, TimeoutError):
                        return
                    yield WatchEvent(_resource(kind, each), type_ == "DELETED")

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """Return one object."""
        with _converted_errors(f"get {kind.qualified}"):
            return _resource(
                kind,
                await self._client.get(_class(kind), name, **_namespace_scope(kind, namespace)),
            )

    async def create(self, resource: Resource) -> Resource:
        """Create an object."""
        with _converted_errors(f"create {resource.kind.qualified}"):
            return _resource(
                resource.kind,
                await self._client.create(
                    self._object(resource), **_namespace_scope(resource.kind, resource.namespace)
                ),
            )

    async def replace(self, resource: Resource) -> Resource:
        """Replace an object, if its version is still the one that was read."""
        with _converted_errors(f"update {resource.kind.qualified}"):
            return _resource(
                resource.kind,
                await self._client.replace(
                    self._object(resource), **_namespace_scope(resource.kind, resource.namespace)
                ),
            )

    async def apply(self, resource: Resource) -> Resource:
        """Apply an object (server-side, forced) as this controller's field manager."""
        kind = resource.kind
        with _converted_errors(f"apply {kind.qualified}"):
            found = await self._client.patch(
                _class(kind),
                resource.name,
                self._object(resource),
                **_namespace_scope(kind, resource.namespace),
                patch_type=PatchType.APPLY,
                field_manager=FIELD_MANAGER,
                force=True,
            )
            return _resource(kind, found)

    async def patch_status(
        self, kind: ResourceKind, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> Resource:
        """Merge `patch` into the object through its status subresource."""
        with _converted_errors(f"patch {kind.qualified}/status"):
            status = _class(kind, "status")
            found = await self._client.patch(
                status,
                name,
                dict(patch),
                **_namespace_scope(kind, namespace),
                patch_type=PatchType.MERGE,
            )
            return _resource(kind, found)

    async def delete(self, kind: ResourceKind, namespace: str, name: str) -> None:
        """Request the deletion of an object."""
        with _converted_errors(f"delete {kind.qualified}"):
            await self._client.delete(_class(kind), name, **_namespace_scope(kind, namespace))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _object(self, resource: Resource) -> Any:
        return _class(resource.kind)(
            {**resource.object, "apiVersion": resource.kind.api_version, "kind": resource.kind.kind}
        )


@lru_cache(maxsize=1024)
def _class(kind: ResourceKind, action: str | None = None) -> Any:
    """Return the library's class for a kind, or for its status subresource.

    The library's factories are not used: their global registry rejects a second class for a core
    kind.
    """
    definition = ResourceDef(kind.group, kind.version, kind.kind)
    parent = definition if action else None
    info = ApiInfo(
        resource=definition, parent=parent, plural=kind.plural, verbs=[*_VERBS], action=action
    )
    return type(
        kind.kind,
        (GenericNamespacedResource if kind.namespaced else GenericGlobalResource,),
        {"_api_info": info},
    )


def _resource(kind: ResourceKind, found: Mapping[str, Any]) -> Resource:
    # Items of a list lack these two fields.
    return Resource(kind, {**found, "apiVersion": kind.api_version, "kind": kind.kind})


def _namespace_scope(kind: ResourceKind, namespace: str) -> dict[str, Any]:
    return {"namespace": namespace} if kind.namespaced else {}


def _list_scope(kind: ResourceKind, namespace: str | None) -> dict[str, Any]:
    return {"namespace": namespace or "*"} if kind.namespaced else {}


@contextmanager
def _converted_errors(what: str, needs: str = "") -> Iterator[None]:
    """Convert the library's errors; `needs` is the missing RBAC rule if the call is forbidden."""
    try:
        yield
    except ApiError as error:
        if _is_terminating(error):
            raise NamespaceTerminating(f"{what}: {error.status.message}") from error
        raise _error_of_status(
            int(error.status.code or 0),
            error.status.reason or "",
            error.status.message or str(error),
            what,
            needs,
        ) from error
    except httpx2.HTTPStatusError as error:
        raise _error_of_status(
            error.response.status_code, "", f"HTTP {error.response.status_code}", what, needs
        ) from error
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        raise ApiServerUnavailable(
            f"{what}: the Kubernetes API server did not answer ({type(error).__name__}: {error})"
        ) from error


def _required_rule(kind: ResourceKind) -> str:
    """Return the RBAC rule that is needed to follow a kind."""
    return f'{{apiGroups: ["{kind.group}"], resources: [{kind.plural}], verbs: [get, list, watch]}}'


def _is_terminating(error: ApiError) -> bool:
    """Return whether a 403 is not about permissions: nothing can be created in a namespace that is
    being deleted.
    """
    causes = error.status.details.causes if error.status.details else None
    return error.status.code == 403 and any(
        cause.reason == "NamespaceTerminating" for cause in causes or ()
    )


def _error_of_status(code: int, reason: str, message: str, what: str, needs: str) -> Exception:
    match code:
        case 404:
            return NotFound(message)
        case 409:
            return (AlreadyExists if reason == "AlreadyExists" else Conflict)(message)
        case _ if code == _GONE:
            return ResourceVersionExpired(message)
        case 401 | 403:
            rule = f", it needs the rule {needs}" if needs else ""
            return AccessDenied(
                f"{what}: {message}; look at the Role of this controller's service account{rule}"
            )
        case 422 if "metadata.uid" in message:
            return Conflict(message)  # A patch for a deleted object, whose name exists again.
        case 400 | 405 | 413 | 415 | 422:
            return Permanent(message)
        case 500 if _NOT_TYPED in message:
            return Permanent(message)
        case _:
            return ApiServerUnavailable(f"{what}: {message}")
