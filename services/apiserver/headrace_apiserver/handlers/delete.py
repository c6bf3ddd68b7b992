"""DELETE of one object or of a collection."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.resource import Resource
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.decoding import media_type, read_body, read_document
from headrace_apiserver.requests.options import (
    DeleteOptions,
    read_delete_options,
    read_list_options,
)
from headrace_apiserver.requests.selectors import read_selection
from headrace_apiserver.responses import object_response
from headrace_apiserver.startup_write_gate import write_deadline
from headrace_apiserver.statuses import success

_CONCURRENT_DELETES = 100
"""Deletes of a collection that run at once; the store groups their records."""


class DeleteHandlers:
    """The deleting verbs."""

    def __init__(self, registry: ObjectRegistry, get_handlers: GetHandlers) -> None:
        self._registry = registry
        self._get_handlers = get_handlers

    async def delete(self, scope: RequestScope) -> Response:
        """DELETE of one object. The response is a Status if the object is gone, else the object
        with its deletionTimestamp. Raises StatusError and errors of the store.
        """
        options = read_delete_options(scope.request.query_params, await self._read_body(scope))
        old = self._get_handlers.find(scope)
        async with write_deadline(scope.held_seconds):
            left = await self._registry.delete(scope, old, options)
        if left is not None:
            return object_response(
                scope.formatter.format_object(left.object, scope.format()), warnings=scope.warnings
            )
        return object_response(
            success(scope.kind, name=old.name, uid=old.uid), warnings=scope.warnings
        )

    async def delete_collection(self, scope: RequestScope) -> Response:
        """DELETE of the selected objects of a collection. The response lists them. Raises
        StatusError and errors of the store.
        """
        options = read_delete_options(scope.request.query_params, await self._read_body(scope))
        listed = read_list_options(scope.request.query_params)
        found = self._get_handlers.select(
            scope,
            read_selection(scope.kind, listed.labels, listed.fields, selectable=scope.selectable),
        )
        version = self._get_handlers.resource_version
        for start in range(0, len(found), _CONCURRENT_DELETES):
            batch = found[start : start + _CONCURRENT_DELETES]
            deletes = (self._delete_if_present(scope, each, options) for each in batch)
            # All have ended before the client learns of the first failure: none continues after
            # the response.
            for failed in await asyncio.gather(*deletes, return_exceptions=True):
                if failed is not None:
                    raise failed
        return scope.formatter.list_response(
            [each.object for each in found], {"resourceVersion": version}, scope.format()
        )

    async def _delete_if_present(
        self, scope: RequestScope, old: Resource, options: DeleteOptions
    ) -> None:
        try:
            await self._registry.delete(scope, old, options)
        except (NotFound, Conflict):
            return

    async def _read_body(self, scope: RequestScope) -> Mapping[str, Any]:
        text = await read_body(scope.request)
        if not text:
            return {}
        body: Mapping[str, Any] = (await read_document(text, media_type(scope.request))).document
        return body
