"""The writing verbs at the door: from a request's body and query to a write, and from what came of
it to the answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response

from headrace.codec.objects import BYTES_MAX
from headrace_apiserver.admission_plugins import BuiltInUnchanged
from headrace_apiserver.controllers.crds import DEFINITION
from headrace_apiserver.handlers.responses import object_response
from headrace_apiserver.handlers.scale import change_of_scale, scale_of
from headrace_apiserver.patching.patch import merged, patched
from headrace_apiserver.patching.strategic import has_directives, strategically_merged
from headrace_apiserver.registry import ObjectRegistry, Transform, WriteResult
from headrace_apiserver.requests.decoding import (
    DEFINITION_BYTES_MAX,
    Body,
    media_type,
    parsed_json,
    parsed_yaml,
    read_body,
    read_document,
)
from headrace_apiserver.requests.options import WriteOptions, read_write_options
from headrace_apiserver.requests.request_scope import RequestScope
from headrace_apiserver.startup_write_gate import write_deadline
from headrace_apiserver.statuses import bad_request, unsupported_media_type

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


class WriteHandlers:
    """POST to a collection, PUT and PATCH of an object, its status or its scale."""

    def __init__(self, registry: ObjectRegistry) -> None:
        self._registry = registry

    async def create(self, scope: RequestScope) -> Response:
        """POST. Raises StatusError and errors of the store."""
        body, options = await self._read(scope), self._options(scope)
        return await self._write_object(scope, lambda: self._registry.create(scope, body, options))

    async def replace(self, scope: RequestScope) -> Response:
        """PUT. Raises StatusError and errors of the store."""
        body, options = await self._read(scope), self._options(scope)
        if scope.info.subresource == "scale":
            return await self._write_scale(
                scope, change_of_scale(scope.served, body.document), options
            )
        return await self._write_object(scope, lambda: self._registry.replace(scope, body, options))

    async def patch(self, scope: RequestScope) -> Response:
        """PATCH of one of four kinds. Raises StatusError and errors of the store."""
        type_, options = media_type(scope.request), self._options(scope)
        if type_ not in PATCH_TYPES:
            raise unsupported_media_type(PATCH_TYPES)
        text = await read_body(scope.request, bytes_max=_limit(scope))
        if type_ == APPLY_PATCH:
            return await self._apply(scope, await parsed_yaml(text), options)
        patch = (await parsed_json(text)).document
        if type_ == JSON_PATCH:
            transform: Transform = lambda before: patched(before, patch)  # noqa: E731
        else:
            transform = _merge(scope, patch, strategic=type_ == STRATEGIC_PATCH)
        if scope.info.subresource == "scale":
            return await self._write_scale(
                scope,
                lambda before: change_of_scale(
                    scope.served, transform(scale_of(scope.served, before))
                )(before),
                options,
            )
        return await self._write_object(
            scope, lambda: self._registry.patch(scope, transform, options)
        )

    async def _apply(self, scope: RequestScope, body: Body, options: WriteOptions) -> Response:
        if "fieldManager" not in scope.request.query_params:
            raise bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for"
                " apply patch"
            )
        if not isinstance(body.document, Mapping):
            raise bad_request("the object provided cannot be read: the body must hold one object")
        if scope.info.subresource == "scale":
            raise unsupported_media_type((JSON_PATCH, MERGE_PATCH))
        return await self._write_object(scope, lambda: self._registry.apply(scope, body, options))

    async def _write_scale(
        self, scope: RequestScope, transform: Transform, options: WriteOptions
    ) -> Response:
        async with write_deadline(scope.held_seconds):
            written = await self._registry.patch(scope, transform, options)
        return object_response(
            scale_of(scope.served, scope.formatter.convert(written.document)),
            warnings=scope.warnings,
        )

    async def _write_object(
        self, scope: RequestScope, write: Callable[[], Awaitable[WriteResult]]
    ) -> Response:
        try:
            async with write_deadline(scope.held_seconds):
                written = await write()
        except BuiltInUnchanged as kept:
            scope.warnings.append(str(kept))
            written = WriteResult(kept.resource.object, created=scope.request.method == "POST")
        document = scope.formatter.format_object(written.document, scope.format())
        return object_response(document, 201 if written.created else 200, warnings=scope.warnings)

    async def _read(self, scope: RequestScope) -> Body:
        return await read_document(
            await read_body(scope.request, bytes_max=_limit(scope)), media_type(scope.request)
        )

    def _options(self, scope: RequestScope) -> WriteOptions:
        scope.format()  # An answer that cannot be made is refused before anything is stored.
        return read_write_options(scope.request.query_params, agent=scope.agent)


def _limit(scope: RequestScope) -> int:
    return (
        DEFINITION_BYTES_MAX
        if scope.served.key == (DEFINITION.group, DEFINITION.plural)
        else BYTES_MAX
    )


def _merge(scope: RequestScope, patch: Any, *, strategic: bool) -> Transform:
    if not isinstance(patch, Mapping):
        raise bad_request("error decoding patch: a merge patch is an object")
    if strategic and not scope.served.custom:
        return lambda before: strategically_merged(scope.kind, before, patch)
    if strategic and has_directives(patch):
        # Custom kinds have no list keys that a patch could mean; a cluster takes no strategic patch
        # for them at all.
        raise unsupported_media_type((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
    return lambda before: merged(before, patch)
