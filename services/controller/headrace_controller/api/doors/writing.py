"""The writing verbs at the door: from a request's body and query to a write, and from what came of it to the answer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response

from headrace.codec.objects import BYTES_MAX
from headrace_controller.api.changes.patch import merged, patched
from headrace_controller.api.changes.strategic import has_directives, strategically_merged
from headrace_controller.api.doors.answers import answer
from headrace_controller.api.doors.first_writes import answered_in_time
from headrace_controller.api.doors.house_rules import BuiltIn
from headrace_controller.api.doors.scale import change_of_scale, scale_of
from headrace_controller.api.doors.writes import Make, Writes, Written
from headrace_controller.api.requests.calls import Call
from headrace_controller.api.requests.options import WriteOptions, read_write_options
from headrace_controller.api.requests.reading import (
    DEFINITION_BYTES_MAX,
    Body,
    media_type,
    parsed_json,
    parsed_yaml,
    read_body,
    read_document,
)
from headrace_controller.api.statuses import bad_request, unsupported_media_type
from headrace_controller.api.upkeep.established import DEFINITION

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


class WritingDoors:
    """POST to a collection, PUT and PATCH of an object, its status or its scale."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def create(self, call: Call) -> Response:
        """POST. Raises StatusError and errors of the store."""
        body, options = await self._read(call), self._options(call)
        return await self._written(call, lambda: self._writes.create(call, body, options))

    async def replace(self, call: Call) -> Response:
        """PUT. Raises StatusError and errors of the store."""
        body, options = await self._read(call), self._options(call)
        if call.target.subresource == "scale":
            return await self._scaled(call, change_of_scale(call.served, body.document), options)
        return await self._written(call, lambda: self._writes.replace(call, body, options))

    async def patch(self, call: Call) -> Response:
        """PATCH of one of four kinds. Raises StatusError and errors of the store."""
        type_, options = media_type(call.request), self._options(call)
        if type_ not in PATCH_TYPES:
            raise unsupported_media_type(PATCH_TYPES)
        text = await read_body(call.request, bytes_max=_limit(call))
        if type_ == APPLY_PATCH:
            return await self._apply(call, await parsed_yaml(text), options)
        patch = (await parsed_json(text)).document
        if type_ == JSON_PATCH:
            make: Make = lambda before: patched(before, patch)  # noqa: E731
        else:
            make = _merge(call, patch, strategic=type_ == STRATEGIC_PATCH)
        if call.target.subresource == "scale":
            return await self._scaled(
                call, lambda before: change_of_scale(call.served, make(scale_of(call.served, before)))(before), options
            )
        return await self._written(call, lambda: self._writes.patch(call, make, options))

    async def _apply(self, call: Call, body: Body, options: WriteOptions) -> Response:
        if "fieldManager" not in call.request.query_params:
            raise bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch")
        if not isinstance(body.document, Mapping):
            raise bad_request("the object provided cannot be read: the body must hold one object")
        if call.target.subresource == "scale":
            raise unsupported_media_type((JSON_PATCH, MERGE_PATCH))
        return await self._written(call, lambda: self._writes.apply(call, body, options))

    async def _scaled(self, call: Call, make: Make, options: WriteOptions) -> Response:
        async with answered_in_time(call.held_seconds):
            written = await self._writes.patch(call, make, options)
        return answer(scale_of(call.served, call.presentation.view(written.document)), warnings=call.warnings)

    async def _written(self, call: Call, write: Callable[[], Awaitable[Written]]) -> Response:
        try:
            async with answered_in_time(call.held_seconds):
                written = await write()
        except BuiltIn as kept:
            call.warnings.append(str(kept))
            written = Written(kept.resource.object, created=call.request.method == "POST")
        document = call.presentation.one(written.document, call.shape())
        return answer(document, 201 if written.created else 200, warnings=call.warnings)

    async def _read(self, call: Call) -> Body:
        return await read_document(await read_body(call.request, bytes_max=_limit(call)), media_type(call.request))

    def _options(self, call: Call) -> WriteOptions:
        call.shape()  # An answer that cannot be made is refused before anything is stored.
        return read_write_options(call.request.query_params, agent=call.agent)


def _limit(call: Call) -> int:
    return DEFINITION_BYTES_MAX if call.served.key == (DEFINITION.group, DEFINITION.plural) else BYTES_MAX


def _merge(call: Call, patch: Any, *, strategic: bool) -> Make:
    if not isinstance(patch, Mapping):
        raise bad_request("error decoding patch: a merge patch is an object")
    if strategic and not call.served.custom:
        return lambda before: strategically_merged(call.kind, before, patch)
    if strategic and has_directives(patch):
        # Custom kinds have no list keys that a patch could mean; a cluster takes no strategic patch for them at all.
        raise unsupported_media_type((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
    return lambda before: merged(before, patch)
