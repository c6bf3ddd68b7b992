"""DELETE, of one object or of a collection: what goes at once, and what stays until somebody has cleaned up.

What becomes of dependents is written into the object as a finalizer where somebody must see to it first (Foreground, Orphan); with
Background the garbage collector follows by itself.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Resource
from headrace.resources.resource_rules import deleted
from headrace_controller.api.doors.answers import answer
from headrace_controller.api.doors.first_writes import answered_in_time
from headrace_controller.api.doors.house_rules import HouseRules
from headrace_controller.api.doors.reading import ReadingDoors
from headrace_controller.api.requests.calls import Call
from headrace_controller.api.requests.options import DeleteOptions, Propagation, read_delete_options, read_list_options
from headrace_controller.api.requests.reading import media_type, read_body, read_document
from headrace_controller.api.statuses import success
from headrace_controller.api.upkeep.garbage import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from headrace_controller.api.watching.selectors import read_selection

_TOGETHER = 100
"""Deletes of a collection in flight at once; the store groups them."""
_FINALIZERS = {Propagation.BACKGROUND: (), Propagation.FOREGROUND: (FOREGROUND_FINALIZER,), Propagation.ORPHAN: (ORPHAN_FINALIZER,)}


class RemovingDoors:
    """The removing verbs."""

    def __init__(self, store: ResourceStore, reading: ReadingDoors, rules: HouseRules, stamp: Callable[[], str]) -> None:
        """`stamp` gives the time now, RFC 3339."""
        self._store = store
        self._reading = reading
        self._rules = rules
        self._stamp = stamp

    async def delete(self, call: Call) -> Response:
        """DELETE of one object: a Status when it is gone, else the object, marked. Raises StatusError and errors of the store."""
        options = read_delete_options(call.request.query_params, await self._body(call))
        old = self._reading.find(call)
        async with answered_in_time(call.held_seconds):
            left = await self._remove(call, old, options)
        if left is not None:
            return answer(call.presentation.one(left.object, call.shape()), warnings=call.warnings)
        return answer(success(call.kind, name=old.name, uid=old.uid), warnings=call.warnings)

    async def delete_collection(self, call: Call) -> Response:
        """DELETE of what a selection finds; answers with the list of it. Raises StatusError and errors of the store."""
        options = read_delete_options(call.request.query_params, await self._body(call))
        listed = read_list_options(call.request.query_params)
        found = self._reading.select(call, read_selection(call.kind, listed.labels, listed.fields, selectable=call.selectable))
        position = self._store.position
        for start in range(0, len(found), _TOGETHER):
            together = (self._remove_quietly(call, each, options) for each in found[start : start + _TOGETHER])
            # All of them have ended before the client is told of the first that failed: none runs on behind the answer.
            for failed in await asyncio.gather(*together, return_exceptions=True):
                if failed is not None:
                    raise failed
        return call.presentation.list([each.object for each in found], {"resourceVersion": position}, call.shape())

    async def _remove_quietly(self, call: Call, old: Resource, options: DeleteOptions) -> None:
        try:
            await self._remove(call, old, options)
        except (NotFound, Conflict):
            return

    async def _remove(self, call: Call, old: Resource, options: DeleteOptions) -> Resource | None:
        kind = call.served.storage
        finalizers = (*self._rules.finalizers(call, old), *_FINALIZERS[options.propagation])
        if options.dry_run:
            now = self._stamp()
            return deleted(old, kind=kind, name=old.name, precondition=options.precondition, finalizers=finalizers, now=now)
        return await self._store.delete(kind, old.namespace, old.name, precondition=options.precondition, finalizers=finalizers)

    async def _body(self, call: Call) -> Mapping[str, Any]:
        text = await read_body(call.request)
        if not text:
            return {}
        body: Mapping[str, Any] = (await read_document(text, media_type(call.request))).document
        return body
