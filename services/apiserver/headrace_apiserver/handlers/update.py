"""PUT of an object, its status or its scale."""

from starlette.responses import Response

from headrace_apiserver.handlers.scale import change_of_scale
from headrace_apiserver.handlers.write_request import (
    read_object,
    read_options,
    write_object,
    write_scale,
)
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.request_scope import RequestScope


async def update(registry: ObjectRegistry, scope: RequestScope) -> Response:
    """Replace the object by the one in the body. Raises StatusError and errors of the store."""
    body, options = await read_object(scope), read_options(scope)
    if scope.info.subresource == "scale":
        transform = change_of_scale(scope.served, body.document)
        return await write_scale(scope, lambda: registry.patch(scope, transform, options))
    return await write_object(scope, lambda: registry.replace(scope, body, options))
