"""The reading verbs: get, list and watch.

A list is read from memory in one go, so it is of one moment, and its resourceVersion is that moment's. A list that is asked for in pieces
goes on from the key the piece before ended with, in the newest state: the version it carries stays the first piece's, so that a client that
watches from there meets what changed meanwhile. When that version is out of the watch window the client begins again (410).
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from starlette.responses import Response, StreamingResponse

from headrace.domain.errors import NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Resource
from headrace_controller.api.doors.answers import JSON, answer
from headrace_controller.api.requests.calls import Call
from headrace_controller.api.requests.options import ListOptions, is_version, read_list_options
from headrace_controller.api.schemas.causes import forbidden as forbidden_cause
from headrace_controller.api.statuses import bad_request, expired, timed_out, unprocessable
from headrace_controller.api.watching.selectors import Selection, read_selection
from headrace_controller.api.watching.watches import Watch, WatchHub, WatchRequest
from headrace_controller.api.work import place_of

_WATCH_SECONDS = 1_800.0
_TOKEN_LENGTH_MAX = 1_000


class Place(NamedTuple):
    """Where a list broke off: the version of its first piece, and the last key of the newest."""

    version: str
    namespace: str
    name: str


class ReadingDoors:
    """Answers from memory; nothing here waits for anything but the client."""

    def __init__(self, store: ResourceStore, hub: WatchHub) -> None:
        self._store = store
        self._hub = hub

    def get(self, call: Call) -> Response:
        """GET of one object, whole or as its status. Raises StatusError."""
        return answer(call.presentation.one(self.find(call).object, call.shape()))

    def find(self, call: Call) -> Resource:
        """The object a call names. Raises NotFound."""
        return self._store.get(call.served.storage, call.namespace, call.target.name)

    def list(self, call: Call) -> Response:
        """GET of a collection: a list, or a watch. Raises StatusError."""
        options = read_list_options(call.request.query_params)
        selection = read_selection(
            call.kind, options.labels, options.fields, selectable=[path.lstrip(".") for path in call.served.selectable]
        )
        if call.target.name:
            selection = _only(selection, call)
        if options.watch:
            return self._watch(call, options, selection)
        place = self._check_version(call, options)
        position = place.version if place else self._store.position
        found = self.select(call, selection)
        if place:
            found = [each for each in found if (each.namespace, each.name) > (place.namespace, place.name)]
        metadata: dict[str, Any] = {"resourceVersion": position}
        if options.limit and len(found) > options.limit:
            left = len(found) - options.limit
            found = found[: options.limit]
            metadata["continue"] = _write_token(Place(position, found[-1].namespace, found[-1].name))
            if selection.everything:
                metadata["remainingItemCount"] = left
        return call.presentation.list([each.object for each in found], metadata, call.shape(), place_of(call.request.scope).turn)

    def select(self, call: Call, selection: Selection) -> Sequence[Resource]:
        """What there is of the call's kind and namespace and passes, in the order of namespace and name."""
        kind = call.served.storage
        if selection.name is not None and (call.target.namespace is not None or not kind.namespaced):
            try:
                found: Sequence[Resource] = [self._store.get(kind, call.namespace, selection.name)]
            except NotFound:
                return []
        else:
            found = self._store.list(kind, call.target.namespace)
        return found if selection.everything else [each for each in found if selection.passes(call.presentation.view(each.object))]

    def _check_version(self, call: Call, options: ListOptions) -> Place | None:
        """Where a list goes on, if it does. Raises StatusError for a version that cannot be answered from."""
        if options.match and not options.version:
            cause = forbidden_cause("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
            raise unprocessable("meta.k8s.io", "ListOptions", [cause])
        if options.token:
            place = _read_token(options.token)
            if not self._hub.remembers(call.served.storage, place.version):
                raise expired("The provided continue parameter is too old to display a consistent list result; list again without it")
            return place
        if not options.version or options.version == "0":
            return None
        wanted, current = int(options.version), int(self._store.position)
        if wanted > current:
            raise timed_out(f"Too large resource version: {wanted}, current: {current}")
        if options.match == "Exact" and wanted != current:
            raise expired(f"The resourceVersion for the provided list is too old: {wanted} ({current})")
        return None

    def _watch(self, call: Call, options: ListOptions, selection: Selection) -> Response:
        if options.initial_events and options.match != "NotOlderThan":
            cause = forbidden_cause("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            raise unprocessable("meta.k8s.io", "ListOptions", [cause])
        kind = call.served.storage
        since = options.version
        if options.initial_events:
            since = ""
        request = WatchRequest(
            kind=call.kind,
            namespace=call.target.namespace,
            selection=selection,
            since=since or None,
            initial=options.initial_events is not False,
            initial_end=bool(options.initial_events),
            bookmarks=options.bookmarks,
            seconds=options.timeout_seconds or _WATCH_SECONDS,
        )
        framing = call.presentation.framing(call.shape())
        place = place_of(call.request.scope)
        watch = self._hub.open(request, framing, lambda: self._store.list(kind, call.target.namespace), work=place)
        return StreamingResponse(_lines(watch), media_type=JSON)


async def _lines(watch: Watch) -> AsyncIterator[bytes]:
    try:
        async for lines in watch:
            yield lines
    finally:
        watch.close()


def _only(selection: Selection, call: Call) -> Selection:
    """The selection of a watch of one object by its path."""
    named = read_selection(call.kind, None, f"metadata.name={call.target.name}")
    return Selection(selection.labels, (*selection.fields, *named.fields))


def _write_token(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _read_token(token: str) -> Place:
    try:
        if len(token) > _TOKEN_LENGTH_MAX:
            raise ValueError("too long")
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, namespace, name = found
        if not (all(isinstance(each, str) for each in found) and is_version(version)):
            raise ValueError("not what was given")
        return Place(version, namespace, name)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise bad_request("continue key is not valid: send one that a list has carried, as it was") from error
