"""From what a client sent to what is stored: create, replace, patch and apply, for every kind.

Each turn reads the object as it is, makes the new one of it, lets admission judge it, notes who
owns which field, and stores it on the condition that nobody else has written meanwhile. When
somebody has, and the client did not say which version it changes, the turn is taken again. `dryRun`
takes the same way and stops before the store.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from headrace.codec.objects import check_size, check_values, write_object
from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import AlreadyExists, Resource
from headrace.resources.resource_rules import created, not_found, replaced, status_replaced
from headrace.resources.timestamps import write_time
from headrace_apiserver.admission_plugins import AdmissionPlugins
from headrace_apiserver.admission_pool import AdmissionPool
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.conversion import converted
from headrace_apiserver.patching.apply import (
    WriteContext,
    applied,
    keep_unchanged_times,
    track_managed_fields,
)
from headrace_apiserver.requests.decoding import Body
from headrace_apiserver.requests.options import WriteOptions
from headrace_apiserver.requests.request_scope import RequestScope
from headrace_apiserver.schemas.admission import Strictness, admit
from headrace_apiserver.statuses import (
    already_exists,
    bad_request,
    modified,
    too_large,
    unavailable,
)
from headrace_apiserver.strategy import (
    bind_to_request_path,
    generate_name,
    set_user_info_annotations,
    with_status_of,
    without_status,
)
from headrace_controller.system_config import SystemConfigReader

ATTEMPTS_MAX = 5
STORED_BYTES_MAX = 900_000
"""Of one object; with its key and the rest of the record it must stay below the 1 MB that a record
may have.
"""

Document = dict[str, Any]
Transform = Callable[[Document], Mapping[str, Any]]
"""From the object as it is, in the version of the request, to the one that is wanted."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What came of a write, as it is stored."""

    document: Mapping[str, Any]
    created: bool = False


class ObjectRegistry:
    """The writing verbs, above the store."""

    def __init__(
        self,
        store: ResourceStore,
        catalog: Catalog,
        plugins: AdmissionPlugins,
        now: Callable[[], datetime],
        *,
        admission_pool: AdmissionPool | None = None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._plugins = plugins
        self._admission_pool = admission_pool or AdmissionPool()
        self._system = SystemConfigReader(store.find)
        self._now = now

    async def create(self, scope: RequestScope, body: Body, options: WriteOptions) -> WriteResult:
        """Store a new object. Raises StatusError and errors of the store."""
        _refuse_duplicates(scope, body, options)
        generated = not (body.document.get("metadata") or {}).get("name")
        for attempt in range(ATTEMPTS_MAX):
            draft = generate_name(
                bind_to_request_path(body.document, scope.kind, scope.namespace, None),
                scope.kind,
                random.SystemRandom().randrange,
            )
            try:
                return await self._create(scope, draft, options)
            except AlreadyExists:
                # A generated name that is taken is no affair of the client's.
                if not generated or attempt == ATTEMPTS_MAX - 1:
                    raise already_exists(scope.kind, str(draft["metadata"]["name"])) from None
        raise AssertionError("the last turn returns or raises")

    async def replace(self, scope: RequestScope, body: Body, options: WriteOptions) -> WriteResult:
        """Store another version of an object, or of its status. Raises StatusError and errors of
        the store.
        """
        _refuse_duplicates(scope, body, options)
        wanted = bind_to_request_path(body.document, scope.kind, scope.namespace, scope.info.name)
        return await self._change(scope, lambda _: wanted, options)

    async def patch(
        self, scope: RequestScope, transform: Transform, options: WriteOptions
    ) -> WriteResult:
        """Store what a patch makes of an object. Raises StatusError and errors of the store."""
        return await self._change(scope, transform, options)

    async def apply(self, scope: RequestScope, body: Body, options: WriteOptions) -> WriteResult:
        """Server-side apply: the fields in the body become the manager's; the object is made when
        it is not there.
        """
        _refuse_duplicates(scope, body, options)
        intent = bind_to_request_path(body.document, scope.kind, scope.namespace, scope.info.name)
        for attempt in range(ATTEMPTS_MAX):
            old = self._find(scope)
            try:
                return await self._apply(scope, intent, old, options)
            except (Conflict, NotFound):
                if (
                    attempt == ATTEMPTS_MAX - 1
                    or intent["metadata"].get("resourceVersion")
                    or (old is None and scope.info.subresource)
                ):
                    raise
        raise AssertionError("the last turn returns or raises")

    async def _apply(
        self, scope: RequestScope, intent: Document, old: Resource | None, options: WriteOptions
    ) -> WriteResult:
        before = None if old is None else dict(scope.formatter.convert(old.object))
        if before is None and scope.info.subresource:
            raise not_found(scope.kind, scope.info.name)
        result = applied(
            before, intent, scope.served.schema, self._write(scope, options), force=options.force
        )
        if old is None or before is None:
            return await self._create(scope, result, options, owned=True)
        return await self._store_change(scope, result, old, before, options, owned=True)

    async def _create(
        self, scope: RequestScope, draft: Document, options: WriteOptions, *, owned: bool = False
    ) -> WriteResult:
        self._plugins.validate_create(scope, draft)
        draft = self._plugins.mutate(scope.kind, without_status(draft, scope.kind, None), None)
        draft = set_user_info_annotations(draft, scope.kind, None, scope.user.name)
        admitted = await self._admit(scope, draft, None, options)
        if not owned:
            admitted = track_managed_fields(
                None, admitted, scope.served.schema, self._write(scope, options)
            )
        resource = self._storable(scope, admitted)
        if options.dry_run:
            there = self._find_named(scope, resource.name)
            new = created(resource, there, uid=str(uuid4()), now=self._stamp())
        else:
            new = await self._store.create(resource)
        return WriteResult(new.object, created=True)

    async def _change(
        self, scope: RequestScope, transform: Transform, options: WriteOptions
    ) -> WriteResult:
        for attempt in range(ATTEMPTS_MAX):
            old = self._store.get(scope.served.storage, scope.namespace, scope.info.name)
            before = dict(scope.formatter.convert(old.object))
            wanted = bind_to_request_path(
                transform(before), scope.kind, scope.namespace, scope.info.name
            )
            version = wanted["metadata"].get("resourceVersion")
            if not version:
                # What must not change was compared with this version, so this is the one to
                # replace.
                wanted["metadata"]["resourceVersion"] = version = old.version
            if version != old.version:
                # Before anything is judged: what is wrong with a change of something else is of no
                # interest.
                raise modified(scope.kind, old.name)
            try:
                return await self._store_change(scope, wanted, old, before, options)
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("the last turn returns or raises")

    async def _store_change(
        self,
        scope: RequestScope,
        wanted: Document,
        old: Resource,
        before: Document,
        options: WriteOptions,
        *,
        owned: bool = False,
    ) -> WriteResult:
        status = scope.info.subresource == "status"
        self._plugins.validate_update(scope, old)
        if status:
            draft = with_status_of(wanted, before)
        else:
            draft = self._plugins.mutate(
                scope.kind, without_status(wanted, scope.kind, before), before
            )
            draft = set_user_info_annotations(draft, scope.kind, before, scope.user.name)
        admitted = await self._admit(scope, draft, before, options)
        if not owned:
            admitted = track_managed_fields(
                before, admitted, scope.served.schema, self._write(scope, options)
            )
        admitted = keep_unchanged_times(before, admitted)
        resource = self._storable(scope, admitted)
        if options.dry_run:
            new = status_replaced(resource, old) if status else replaced(resource, old)
        elif status:
            new = await self._store.replace_status(resource)
        else:
            new = await self._store.replace(resource)
        return WriteResult((new or resource).object)

    async def _admit(
        self, scope: RequestScope, draft: Document, before: Document | None, options: WriteOptions
    ) -> Document:
        validation = partial(
            admit,
            scope.served,
            draft,
            old=before,
            strictness=options.strictness,
            subresource=scope.info.subresource or None,
            kinds=self._catalog,
            system=self._system.read(),
        )
        admitted, waited = await self._admission_pool.run(validation)
        if waited:
            self._require_unchanged(scope, draft, before)
        scope.warnings.extend(admitted.warnings)
        return admitted.document

    def _require_unchanged(
        self, scope: RequestScope, draft: Document, before: Document | None
    ) -> None:
        """Raise StatusError when the kind or the namespace is not what it was before the object was
        judged.
        """
        if (
            self._catalog.of_path(scope.kind.group, scope.kind.version, scope.kind.plural)
            is not scope.served
        ):
            raise unavailable(
                f"the definition of {scope.kind.plural} changed while the object was checked;"
                " please send it again"
            )
        if before is None:
            self._plugins.require_namespace(scope, draft)

    def _write(self, scope: RequestScope, options: WriteOptions) -> WriteContext:
        return WriteContext(
            manager=options.manager,
            api_version=scope.kind.api_version,
            now=self._stamp(),
            subresource=scope.info.subresource,
            status_apart=scope.kind.has_status,
        )

    def _stamp(self) -> str:
        return write_time(self._now())

    def _storable(self, scope: RequestScope, document: Document) -> Resource:
        """In the version that is stored, if it can be stored and read again. Raises StatusError,
        InvalidObject.
        """
        stored = (
            document
            if scope.kind.version == scope.served.storage.version
            else dict(converted(document, scope.served.storage))
        )
        check_size(stored)
        check_values(stored)
        size = len(write_object(stored))
        if size > STORED_BYTES_MAX:
            raise too_large(f"the object would have {size} bytes; limit is {STORED_BYTES_MAX}")
        return Resource(self._plugins.stored_kind(scope), stored)

    def _find(self, scope: RequestScope) -> Resource | None:
        return self._find_named(scope, scope.info.name)

    def _find_named(self, scope: RequestScope, name: str) -> Resource | None:
        try:
            return self._store.get(scope.served.storage, scope.namespace, name)
        except NotFound:
            return None


def _refuse_duplicates(scope: RequestScope, body: Body, options: WriteOptions) -> None:
    messages: Sequence[str] = [f'duplicate field "{path}"' for path in body.duplicates]
    if not messages:
        return
    if options.strictness is Strictness.STRICT:
        raise bad_request(f"strict decoding error: {', '.join(messages)}")
    if options.strictness is Strictness.WARN:
        scope.warnings.extend(messages)
