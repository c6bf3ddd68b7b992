"""PATCH of an object, its status or its scale: JSON Patch, merge patch, strategic merge patch, and
server-side apply.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from headrace_apiserver.handlers.scale import change_of_scale, scale_of
from headrace_apiserver.handlers.write_request import (
    read_options,
    read_text,
    write_object,
    write_scale,
)
from headrace_apiserver.patching.patch import merged, patched
from headrace_apiserver.patching.strategic import has_directives, strategically_merged
from headrace_apiserver.registry import ObjectRegistry, Transform
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.decoding import Body, media_type, parsed_json, parsed_yaml
from headrace_apiserver.requests.options import WriteOptions
from headrace_apiserver.statuses import bad_request, unsupported_media_type

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


async def patch(registry: ObjectRegistry, scope: RequestScope) -> Response:
    """Change the object by the patch in the body. Raises StatusError and errors of the store."""
    type_, options = media_type(scope.request), read_options(scope)
    if type_ not in PATCH_TYPES:
        raise unsupported_media_type(PATCH_TYPES)
    text = await read_text(scope)
    if type_ == APPLY_PATCH:
        return await _apply(registry, scope, await parsed_yaml(text), options)
    transform = _transform(scope, type_, (await parsed_json(text)).document)
    if scope.info.subresource == "scale":

        def change(before: dict[str, Any]) -> Mapping[str, Any]:
            scale = transform(scale_of(scope.served, before))
            return change_of_scale(scope.served, scale)(before)

        return await write_scale(scope, lambda: registry.patch(scope, change, options))
    return await write_object(scope, lambda: registry.patch(scope, transform, options))


async def _apply(
    registry: ObjectRegistry, scope: RequestScope, body: Body, options: WriteOptions
) -> Response:
    if "fieldManager" not in scope.request.query_params:
        raise bad_request(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for"
            " apply patch"
        )
    if not isinstance(body.document, Mapping):
        raise bad_request("the object provided cannot be read: the body must hold one object")
    if scope.info.subresource == "scale":
        raise unsupported_media_type((JSON_PATCH, MERGE_PATCH))
    return await write_object(scope, lambda: registry.apply(scope, body, options))


def _transform(scope: RequestScope, type_: str, document: Any) -> Transform:
    if type_ == JSON_PATCH:
        return lambda before: patched(before, document)
    if not isinstance(document, Mapping):
        raise bad_request("error decoding patch: a merge patch is an object")
    if type_ == STRATEGIC_PATCH and not scope.served.custom:
        return lambda before: strategically_merged(scope.kind, before, document)
    if type_ == STRATEGIC_PATCH and has_directives(document):
        # Custom kinds have no list keys that a directive could refer to. A cluster accepts no
        # strategic patch for them at all.
        raise unsupported_media_type((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
    return lambda before: merged(before, document)
