"""The registry: from what a client sent to what is stored, for every kind and every write.

Each attempt reads the object as it is, makes the new one, admits it, records which manager owns
which field, and stores it under the condition that the object was not written since. If it was, and
the client did not state the version it changes, the next attempt starts. A dry run does the same
and stops before the store. The name is that of k8s.io/apiserver's generic registry.
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
from headrace.resources.resource import AlreadyExists, Resource, ResourceKind
from headrace.resources.resource_rules import (
    created,
    deleted,
    not_found,
    replaced,
    status_replaced,
)
from headrace.resources.timestamps import write_time
from headrace_apiserver.admission.admit import admit
from headrace_apiserver.admission.plugin import AdmissionPlugin
from headrace_apiserver.admission.pool import AdmissionPool
from headrace_apiserver.controllers.garbage_collector import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from headrace_apiserver.controllers.namespaces import NAMESPACE
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.patching.apply import (
    WriteContext,
    applied,
    keep_unchanged_times,
    track_managed_fields,
)
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.decoding import Body
from headrace_apiserver.requests.options import (
    DeleteOptions,
    Propagation,
    Strictness,
    WriteOptions,
)
from headrace_apiserver.statuses import (
    already_exists,
    bad_request,
    modified,
    too_large,
    unavailable,
)
from headrace_apiserver.strategy import (
    NO_RULES,
    Strategies,
    bind_to_request_path,
    generate_name,
    with_status_of,
    without_status,
)

ATTEMPTS_MAX = 5
STORED_BYTES_MAX = 900_000
"""Size of one object. With its key and headers it must stay below the 1 MB that a record may
have.
"""
_FINALIZERS = {
    Propagation.BACKGROUND: (),
    Propagation.FOREGROUND: (FOREGROUND_FINALIZER,),
    Propagation.ORPHAN: (ORPHAN_FINALIZER,),
}

Document = dict[str, Any]
Transform = Callable[[Document], Mapping[str, Any]]
"""From the present object, in the version of the request, to the wanted one."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The object after a write, as it is stored."""

    document: Mapping[str, Any]
    created: bool = False


class ObjectRegistry:
    """Create, replace, patch, apply and delete over the store."""

    def __init__(
        self,
        store: ResourceStore,
        catalog: Catalog,
        plugins: AdmissionPlugin,
        now: Callable[[], datetime],
        *,
        strategies: Callable[[], Strategies] = dict,
        admission_pool: AdmissionPool | None = None,
    ) -> None:
        """`strategies` returns the rules of kinds that are in force; it is called on the event loop
        for every write.
        """
        self._store = store
        self._catalog = catalog
        self._plugins = plugins
        self._admission_pool = admission_pool or AdmissionPool()
        self._strategies = strategies
        self._now = now

    async def create(self, scope: RequestScope, body: Body, options: WriteOptions) -> WriteResult:
        """Store a new object. Raises StatusError and errors of the store."""
        _check_duplicates(scope, body, options)
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
                # The client need not know that a generated name was taken: try another one.
                if not generated or attempt == ATTEMPTS_MAX - 1:
                    raise already_exists(scope.kind, str(draft["metadata"]["name"])) from None
        raise AssertionError("the last attempt returns or raises")

    async def replace(self, scope: RequestScope, body: Body, options: WriteOptions) -> WriteResult:
        """Store a new version of an object, or of its status. Raises StatusError and errors of the
        store.
        """
        _check_duplicates(scope, body, options)
        wanted = bind_to_request_path(body.document, scope.kind, scope.namespace, scope.info.name)
        return await self._update(scope, lambda _: wanted, options)

    async def patch(
        self, scope: RequestScope, transform: Transform, options: WriteOptions
    ) -> WriteResult:
        """Store the result of a patch. Raises StatusError and errors of the store."""
        return await self._update(scope, transform, options)

    async def apply(self, scope: RequestScope, body: Body, options: WriteOptions) -> WriteResult:
        """Server-side apply: the manager becomes the owner of the fields in the body; the object is
        created if it does not exist. Raises StatusError and errors of the store.
        """
        _check_duplicates(scope, body, options)
        intent = bind_to_request_path(body.document, scope.kind, scope.namespace, scope.info.name)
        for attempt in range(ATTEMPTS_MAX):
            old = self._find(scope, scope.info.name)
            try:
                return await self._apply(scope, intent, old, options)
            except (Conflict, NotFound):
                if (
                    attempt == ATTEMPTS_MAX - 1
                    or intent["metadata"].get("resourceVersion")
                    or (old is None and scope.info.subresource)
                ):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def delete(
        self, scope: RequestScope, old: Resource, options: DeleteOptions
    ) -> Resource | None:
        """Delete an object. Returns None if it is gone, else the object, which waits for its
        finalizers. Raises StatusError and errors of the store.

        Foreground and Orphan become a finalizer, because the garbage collector must act before the
        object goes; with Background it acts afterwards.
        """
        kind = scope.served.storage
        finalizers = (*self._plugins.finalizers(scope, old), *_FINALIZERS[options.propagation])
        if options.dry_run:
            return deleted(
                old,
                kind=kind,
                name=old.name,
                precondition=options.precondition,
                finalizers=finalizers,
                now=self._timestamp(),
            )
        return await self._store.delete(
            kind, old.namespace, old.name, precondition=options.precondition, finalizers=finalizers
        )

    async def _apply(
        self, scope: RequestScope, intent: Document, old: Resource | None, options: WriteOptions
    ) -> WriteResult:
        before = None if old is None else dict(scope.formatter.convert(old.object))
        if before is None and scope.info.subresource:
            raise not_found(scope.kind, scope.info.name)
        result = applied(
            before,
            intent,
            scope.served.schema,
            self._write_context(scope, options),
            force=options.force,
        )
        if old is None or before is None:
            return await self._create(scope, result, options, tracked=True)
        return await self._store_update(scope, result, old, before, options, tracked=True)

    async def _create(
        self, scope: RequestScope, draft: Document, options: WriteOptions, *, tracked: bool = False
    ) -> WriteResult:
        """`tracked`: the managed fields of the draft are up to date."""
        self._plugins.validate_create(scope, draft)
        draft = self._plugins.mutate(scope, without_status(draft, scope.kind, None), None)
        admitted = await self._admit(scope, draft, None, options)
        if not tracked:
            admitted = track_managed_fields(
                None, admitted, scope.served.schema, self._write_context(scope, options)
            )
        resource = self._storable(scope, admitted)
        if options.dry_run:
            existing = self._find(scope, resource.name)
            new = created(resource, existing, uid=str(uuid4()), now=self._timestamp())
        else:
            new = await self._store.create(resource)
        return WriteResult(new.object, created=True)

    async def _update(
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
                # Immutable fields are compared with this version, so it is the one to replace.
                wanted["metadata"]["resourceVersion"] = version = old.version
            if version != old.version:
                # Before admission: errors in a change of another version would mislead.
                raise modified(scope.kind, old.name)
            try:
                return await self._store_update(scope, wanted, old, before, options)
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _store_update(
        self,
        scope: RequestScope,
        wanted: Document,
        old: Resource,
        before: Document,
        options: WriteOptions,
        *,
        tracked: bool = False,
    ) -> WriteResult:
        status = scope.info.subresource == "status"
        self._plugins.validate_update(scope, old)
        if status:
            draft = with_status_of(wanted, before)
        else:
            draft = self._plugins.mutate(scope, without_status(wanted, scope.kind, before), before)
        admitted = await self._admit(scope, draft, before, options)
        if not tracked:
            admitted = track_managed_fields(
                before, admitted, scope.served.schema, self._write_context(scope, options)
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
            strategy=self._strategies().get((scope.kind.group, scope.kind.kind), NO_RULES),
        )
        admitted, waited = await self._admission_pool.run(validation)
        if waited:
            self._check_again(scope, draft, before)
        scope.warnings.extend(admitted.warnings)
        return admitted.document

    def _check_again(self, scope: RequestScope, draft: Document, before: Document | None) -> None:
        """Raise StatusError if the kind or the surroundings changed during the admission."""
        kind = scope.kind
        if self._catalog.of_path(kind.group, kind.version, kind.plural) is not scope.served:
            raise unavailable(
                f"the definition of {kind.plural} changed while the object was checked; please"
                " send it again"
            )
        if before is None:
            self._plugins.validate_create(scope, draft)

    def _write_context(self, scope: RequestScope, options: WriteOptions) -> WriteContext:
        return WriteContext(
            manager=options.manager,
            api_version=scope.kind.api_version,
            now=self._timestamp(),
            subresource=scope.info.subresource,
            has_status=scope.kind.has_status,
        )

    def _timestamp(self) -> str:
        return write_time(self._now())

    def _storable(self, scope: RequestScope, document: Document) -> Resource:
        """The object in the version that is stored. Raises StatusError and InvalidObject if it
        cannot be stored and read again.
        """
        stored = scope.served.convert_to_storage(document)
        check_size(stored)
        check_values(stored)
        size = len(write_object(stored))
        if size > STORED_BYTES_MAX:
            raise too_large(f"the object would have {size} bytes; limit is {STORED_BYTES_MAX}")
        return Resource(self._stored_kind(scope), stored)

    def _stored_kind(self, scope: RequestScope) -> ResourceKind:
        if scope.is_of(NAMESPACE):
            # Without a status endpoint: the phase is written together with the rest.
            return NAMESPACE
        storage = scope.served.storage
        return self._catalog.reconciled_kind(storage) or storage

    def _find(self, scope: RequestScope, name: str) -> Resource | None:
        try:
            return self._store.get(scope.served.storage, scope.namespace, name)
        except NotFound:
            return None


def _check_duplicates(scope: RequestScope, body: Body, options: WriteOptions) -> None:
    messages: Sequence[str] = [f'duplicate field "{path}"' for path in body.duplicates]
    if not messages:
        return
    if options.strictness is Strictness.STRICT:
        raise bad_request(f"strict decoding error: {', '.join(messages)}")
    if options.strictness is Strictness.WARN:
        scope.warnings.extend(messages)
