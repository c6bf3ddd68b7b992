"""GET: get, list and watch.

A list is read from memory in one step, so it shows one moment, and its resourceVersion is of that
moment. A list in pages continues after the last key of the page before, in the present state. All
its pages carry the resourceVersion of the first one, so that a client that watches from there sees
what changed in between. If the watch cache no longer has that version, the client must list again
(410).
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
from headrace_apiserver.max_in_flight import slot_of
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.options import ListOptions, is_version, read_list_options
from headrace_apiserver.requests.selectors import Selection, read_selection
from headrace_apiserver.responses import JSON, object_response
from headrace_apiserver.schemas.status_causes import forbidden as forbidden_cause
from headrace_apiserver.statuses import bad_request, expired, timed_out, unprocessable
from headrace_apiserver.watch.cacher import Cacher, CacheWatcher, WatchRequest

_WATCH_SECONDS = 1_800.0
_TOKEN_LENGTH_MAX = 1_000


class ContinueToken(NamedTuple):
    """Where a list continues: the version of its first page, and the last key of its latest."""

    version: str
    namespace: str
    name: str


class GetHandlers:
    """Reads from memory; nothing here waits for anything but the client."""

    def __init__(self, store: ResourceStore, cacher: Cacher) -> None:
        self._store = store
        self._cacher = cacher

    @property
    def resource_version(self) -> str:
        """The resourceVersion of a list read now."""
        return self._store.resource_version

    def warn_if_old(self, scope: RequestScope) -> None:
        """Add a warning while the store cannot be read: responses are from memory."""
        problem = self._store.last_error
        if problem is not None:
            scope.warnings.append(f"objects and their status may be old: {problem}")

    def get(self, scope: RequestScope) -> Response:
        """GET of one object or its status subresource. Raises StatusError."""
        return object_response(
            scope.formatter.format_object(self.find(scope).object, scope.format())
        )

    def find(self, scope: RequestScope) -> Resource:
        """The object that a request names. Raises NotFound."""
        return self._store.get(scope.served.storage, scope.namespace, scope.info.name)

    def list(self, scope: RequestScope) -> Response:
        """GET of a collection: a list or a watch. Raises StatusError."""
        options = read_list_options(scope.request.query_params)
        selection = read_selection(
            scope.kind,
            options.labels,
            options.fields,
            selectable=scope.selectable,
        )
        if scope.info.name:
            selection = _only(selection, scope)
        if options.watch:
            return self._watch(scope, options, selection)
        token = self._check_version(scope, options)
        version = token.version if token else self._store.resource_version
        found = self.select(scope, selection)
        if not found and scope.served.deprecation in scope.warnings:
            # `kubectl get sources` lists each kind of a category: who has no objects of a
            # deprecated version does not use it, and must not be warned each time.
            scope.warnings.remove(scope.served.deprecation)
        if token:
            last = (token.namespace, token.name)
            found = [each for each in found if (each.namespace, each.name) > last]
        metadata: dict[str, Any] = {"resourceVersion": version}
        if options.limit and len(found) > options.limit:
            left = len(found) - options.limit
            found = found[: options.limit]
            metadata["continue"] = _encode_continue_token(
                ContinueToken(version, found[-1].namespace, found[-1].name)
            )
            if selection.everything:
                metadata["remainingItemCount"] = left
        return scope.formatter.list_response(
            [each.object for each in found],
            metadata,
            scope.format(),
            slot_of(scope.request.scope).wait_turn,
        )

    def select(self, scope: RequestScope, selection: Selection) -> Sequence[Resource]:
        """The objects of the request's kind and namespace that pass the selection, ordered by
        namespace and name.
        """
        kind = scope.served.storage
        if selection.name is not None and (scope.info.namespace is not None or not kind.namespaced):
            try:
                found: Sequence[Resource] = [self._store.get(kind, scope.namespace, selection.name)]
            except NotFound:
                return []
        else:
            found = self._store.list(kind, scope.info.namespace)
        return (
            found
            if selection.everything
            else [each for each in found if selection.passes(scope.formatter.convert(each.object))]
        )

    def _check_version(self, scope: RequestScope, options: ListOptions) -> ContinueToken | None:
        """Where a list continues, None for its first page. Raises StatusError if the requested
        version cannot be served.
        """
        if options.match and not options.version:
            cause = forbidden_cause(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )
            raise unprocessable("meta.k8s.io", "ListOptions", [cause])
        if options.token:
            token = _decode_continue_token(options.token)
            if not self._cacher.covers(scope.served.storage, token.version):
                raise expired(
                    "The provided continue parameter is too old to display a consistent list"
                    " result; list again without it"
                )
            return token
        if not options.version or options.version == "0":
            return None
        wanted, current = int(options.version), int(self._store.resource_version)
        if wanted > current:
            raise timed_out(f"Too large resource version: {wanted}, current: {current}")
        if options.match == "Exact" and wanted != current:
            raise expired(
                f"The resourceVersion for the provided list is too old: {wanted} ({current})"
            )
        return None

    def _watch(self, scope: RequestScope, options: ListOptions, selection: Selection) -> Response:
        if options.initial_events and options.match != "NotOlderThan":
            cause = forbidden_cause(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )
            raise unprocessable("meta.k8s.io", "ListOptions", [cause])
        kind = scope.served.storage
        since = options.version
        if options.initial_events:
            since = ""
        request = WatchRequest(
            kind=scope.kind,
            namespace=scope.info.namespace,
            selection=selection,
            since=since or None,
            initial=options.initial_events is not False,
            initial_end=bool(options.initial_events),
            bookmarks=options.bookmarks,
            seconds=options.timeout_seconds or _WATCH_SECONDS,
        )
        framing = scope.formatter.framing(scope.format())
        slot = slot_of(scope.request.scope)
        watch = self._cacher.open(
            request, framing, lambda: self._store.list(kind, scope.info.namespace), slot=slot
        )
        return StreamingResponse(_lines(watch), media_type=JSON)


async def _lines(watch: CacheWatcher) -> AsyncIterator[bytes]:
    try:
        async for lines in watch:
            yield lines
    finally:
        watch.close()


def _only(selection: Selection, scope: RequestScope) -> Selection:
    """The selection of a watch of a single object."""
    named = read_selection(scope.kind, None, f"metadata.name={scope.info.name}")
    return Selection(selection.labels, (*selection.fields, *named.fields))


def _encode_continue_token(token: ContinueToken) -> str:
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")


def _decode_continue_token(text: str) -> ContinueToken:
    try:
        if len(text) > _TOKEN_LENGTH_MAX:
            raise ValueError("too long")
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        version, namespace, name = found
        if not (all(isinstance(each, str) for each in found) and is_version(version)):
            raise ValueError("not a token of this API")
        return ContinueToken(version, namespace, name)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise bad_request(
            "continue key is not valid: send the one of the previous list unchanged"
        ) from error
