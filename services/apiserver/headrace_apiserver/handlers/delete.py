"""DELETE, of one object or of a collection: what goes at once, and what stays until somebody has
cleaned up.

What becomes of dependents is written into the object as a finalizer where somebody must see to it
first (Foreground, Orphan); with Background the garbage collector follows by itself.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Resource
from headrace.resources.resource_rules import deleted
from headrace_apiserver.admission_plugins import AdmissionPlugins
from headrace_apiserver.controllers.garbage import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.handlers.responses import object_response
from headrace_apiserver.requests.decoding import media_type, read_body, read_document
from headrace_apiserver.requests.options import (
    DeleteOptions,
    Propagation,
    read_delete_options,
    read_list_options,
)
from headrace_apiserver.requests.request_scope import RequestScope
from headrace_apiserver.requests.selectors import read_selection
from headrace_apiserver.startup_write_gate import write_deadline
from headrace_apiserver.statuses import success

_TOGETHER = 100
"""Deletes of a collection in flight at once; the store groups them."""
_FINALIZERS = {
    Propagation.BACKGROUND: (),
    Propagation.FOREGROUND: (FOREGROUND_FINALIZER,),
    Propagation.ORPHAN: (ORPHAN_FINALIZER,),
}


class DeleteHandlers:
    """The removing verbs."""

    def __init__(
        self,
        store: ResourceStore,
        get_handlers: GetHandlers,
        plugins: AdmissionPlugins,
        stamp: Callable[[], str],
    ) -> None:
        """`stamp` gives the time now, RFC 3339."""
        self._store = store
        self._get_handlers = get_handlers
        self._plugins = plugins
        self._now = stamp

    async def delete(self, scope: RequestScope) -> Response:
        """DELETE of one object: a Status when it is gone, else the object, marked. Raises
        StatusError and errors of the store.
        """
        options = read_delete_options(scope.request.query_params, await self._body(scope))
        old = self._get_handlers.find(scope)
        async with write_deadline(scope.held_seconds):
            left = await self._delete(scope, old, options)
        if left is not None:
            return object_response(
                scope.formatter.format_object(left.object, scope.format()), warnings=scope.warnings
            )
        return object_response(
            success(scope.kind, name=old.name, uid=old.uid), warnings=scope.warnings
        )

    async def delete_collection(self, scope: RequestScope) -> Response:
        """DELETE of what a selection finds; answers with the list of it. Raises StatusError and
        errors of the store.
        """
        options = read_delete_options(scope.request.query_params, await self._body(scope))
        listed = read_list_options(scope.request.query_params)
        found = self._get_handlers.select(
            scope,
            read_selection(scope.kind, listed.labels, listed.fields, selectable=scope.selectable),
        )
        position = self._store.resource_version
        for start in range(0, len(found), _TOGETHER):
            together = (
                self._delete_if_present(scope, each, options)
                for each in found[start : start + _TOGETHER]
            )
            # All of them have ended before the client is told of the first that failed: none runs
            # on behind the answer.
            for failed in await asyncio.gather(*together, return_exceptions=True):
                if failed is not None:
                    raise failed
        return scope.formatter.list_response(
            [each.object for each in found], {"resourceVersion": position}, scope.format()
        )

    async def _delete_if_present(
        self, scope: RequestScope, old: Resource, options: DeleteOptions
    ) -> None:
        try:
            await self._delete(scope, old, options)
        except (NotFound, Conflict):
            return

    async def _delete(
        self, scope: RequestScope, old: Resource, options: DeleteOptions
    ) -> Resource | None:
        kind = scope.served.storage
        finalizers = (*self._plugins.finalizers(scope, old), *_FINALIZERS[options.propagation])
        if options.dry_run:
            now = self._now()
            return deleted(
                old,
                kind=kind,
                name=old.name,
                precondition=options.precondition,
                finalizers=finalizers,
                now=now,
            )
        return await self._store.delete(
            kind, old.namespace, old.name, precondition=options.precondition, finalizers=finalizers
        )

    async def _body(self, scope: RequestScope) -> Mapping[str, Any]:
        text = await read_body(scope.request)
        if not text:
            return {}
        body: Mapping[str, Any] = (await read_document(text, media_type(scope.request))).document
        return body
