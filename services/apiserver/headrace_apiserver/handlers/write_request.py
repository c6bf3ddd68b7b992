"""What all writing verbs share: the body and the options of a request, and its response."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from headrace.codec.objects import BYTES_MAX
from headrace_apiserver.admission.protected_definitions import BuiltInUnchanged
from headrace_apiserver.controllers.crds import DEFINITION
from headrace_apiserver.handlers.scale import scale_of
from headrace_apiserver.registry import WriteResult
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.decoding import (
    DEFINITION_BYTES_MAX,
    Body,
    media_type,
    read_body,
    read_document,
)
from headrace_apiserver.requests.options import WriteOptions, read_write_options
from headrace_apiserver.responses import object_response
from headrace_apiserver.startup_write_gate import write_deadline

Write = Callable[[], Awaitable[WriteResult]]


async def read_text(scope: RequestScope) -> bytes:
    """The bytes of the body. Raises StatusError 413."""
    limit = DEFINITION_BYTES_MAX if scope.is_of(DEFINITION) else BYTES_MAX
    return await read_body(scope.request, bytes_max=limit)


async def read_object(scope: RequestScope) -> Body:
    """The object in the body. Raises StatusError 400, 413 or 415."""
    return await read_document(await read_text(scope), media_type(scope.request))


def read_options(scope: RequestScope) -> WriteOptions:
    """The options of the write. Raises StatusError 400 or 406."""
    scope.format()  # Nothing is stored if the response cannot have the requested form.
    return read_write_options(scope.request.query_params, agent=scope.agent)


async def write_object(scope: RequestScope, write: Write) -> Response:
    """Perform a write within its deadline; the response is the stored object. Raises what `write`
    raises, and StatusError 504.
    """
    try:
        async with write_deadline(scope.held_seconds):
            written = await write()
    except BuiltInUnchanged as unchanged:
        scope.warnings.append(str(unchanged))
        written = WriteResult(unchanged.resource.object, created=scope.request.method == "POST")
    document = scope.formatter.format_object(written.document, scope.format())
    return object_response(document, 201 if written.created else 200, warnings=scope.warnings)


async def write_scale(scope: RequestScope, write: Write) -> Response:
    """As `write_object`; the response is the Scale of the stored object."""
    async with write_deadline(scope.held_seconds):
        written = await write()
    return object_response(
        scale_of(scope.served, scope.formatter.convert(written.document)), warnings=scope.warnings
    )
