"""POST of a new object to a collection."""

from starlette.responses import Response

from headrace_apiserver.handlers.write_request import read_object, read_options, write_object
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.request_scope import RequestScope


async def create(registry: ObjectRegistry, scope: RequestScope) -> Response:
    """Create the object in the body. Raises StatusError and errors of the store."""
    body, options = await read_object(scope), read_options(scope)
    return await write_object(scope, lambda: registry.create(scope, body, options))
