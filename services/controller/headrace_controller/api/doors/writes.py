"""From what a client sent to what is stored: create, replace, patch and apply, for every kind.

Each turn reads the object as it is, makes the new one of it, lets admission judge it, notes who owns which field, and stores it on the
condition that nobody else has written meanwhile. When somebody has, and the client did not say which version it changes, the turn is taken
again. `dryRun` takes the same way and stops before the store.
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
from headrace.resources.resource_rules import absent, created, replaced, status_replaced
from headrace.resources.timestamps import write_time
from headrace_controller.api.changes.apply import Write, applied, settled, tracked
from headrace_controller.api.doors.drafts import in_path, named, signed, with_status_of, without_status
from headrace_controller.api.doors.house_rules import HouseRules
from headrace_controller.api.doors.judging import Judging
from headrace_controller.api.kinds.catalog import Catalog
from headrace_controller.api.kinds.conversion import converted
from headrace_controller.api.requests.calls import Call
from headrace_controller.api.requests.options import WriteOptions
from headrace_controller.api.requests.reading import Body
from headrace_controller.api.schemas.admission import Strictness, admit
from headrace_controller.api.statuses import already_exists, bad_request, modified, too_large, unavailable
from headrace_controller.system_config import SystemConfigReader

TURNS = 5
STORED_BYTES_MAX = 900_000
"""Of one object; with its key and the rest of the record it must stay below the 1 MB that a record may have."""

Document = dict[str, Any]
Make = Callable[[Document], Mapping[str, Any]]
"""From the object as it is, in the version of the request, to the one that is wanted."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a write, as it is stored."""

    document: Mapping[str, Any]
    created: bool = False


class Writes:
    """The writing verbs, above the store."""

    def __init__(
        self, store: ResourceStore, catalog: Catalog, rules: HouseRules, now: Callable[[], datetime], *, judging: Judging | None = None
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._rules = rules
        self._judging = judging or Judging()
        self._system = SystemConfigReader(store.find)
        self._now = now

    async def create(self, call: Call, body: Body, options: WriteOptions) -> Written:
        """Store a new object. Raises StatusError and errors of the store."""
        _refuse_duplicates(call, body, options)
        generated = not (body.document.get("metadata") or {}).get("name")
        for turn in range(TURNS):
            draft = named(in_path(body.document, call.kind, call.namespace, None), call.kind, random.SystemRandom().randrange)
            try:
                return await self._create(call, draft, options)
            except AlreadyExists:
                # A generated name that is taken is no affair of the client's.
                if not generated or turn == TURNS - 1:
                    raise already_exists(call.kind, str(draft["metadata"]["name"])) from None
        raise AssertionError("the last turn returns or raises")

    async def replace(self, call: Call, body: Body, options: WriteOptions) -> Written:
        """Store another version of an object, or of its status. Raises StatusError and errors of the store."""
        _refuse_duplicates(call, body, options)
        wanted = in_path(body.document, call.kind, call.namespace, call.target.name)
        return await self._change(call, lambda _: wanted, options)

    async def patch(self, call: Call, make: Make, options: WriteOptions) -> Written:
        """Store what a patch makes of an object. Raises StatusError and errors of the store."""
        return await self._change(call, make, options)

    async def apply(self, call: Call, body: Body, options: WriteOptions) -> Written:
        """Server-side apply: the fields in the body become the manager's; the object is made when it is not there."""
        _refuse_duplicates(call, body, options)
        intent = in_path(body.document, call.kind, call.namespace, call.target.name)
        for turn in range(TURNS):
            old = self._find(call)
            try:
                return await self._apply(call, intent, old, options)
            except (Conflict, NotFound):
                if turn == TURNS - 1 or intent["metadata"].get("resourceVersion") or (old is None and call.target.subresource):
                    raise
        raise AssertionError("the last turn returns or raises")

    async def _apply(self, call: Call, intent: Document, old: Resource | None, options: WriteOptions) -> Written:
        before = None if old is None else dict(call.presentation.view(old.object))
        if before is None and call.target.subresource:
            raise absent(call.kind, call.target.name)
        result = applied(before, intent, call.served.schema, self._write(call, options), force=options.force)
        if old is None or before is None:
            return await self._create(call, result, options, owned=True)
        return await self._store_change(call, result, old, before, options, owned=True)

    async def _create(self, call: Call, draft: Document, options: WriteOptions, *, owned: bool = False) -> Written:
        self._rules.before_create(call, draft)
        draft = self._rules.prepared(call.kind, without_status(draft, call.kind, None), None)
        draft = signed(draft, call.kind, None, call.user.name)
        admitted = await self._admit(call, draft, None, options)
        if not owned:
            admitted = tracked(None, admitted, call.served.schema, self._write(call, options))
        resource = self._storable(call, admitted)
        if options.dry_run:
            there = self._find_named(call, resource.name)
            new = created(resource, there, uid=str(uuid4()), now=self._stamp())
        else:
            new = await self._store.create(resource)
        return Written(new.object, created=True)

    async def _change(self, call: Call, make: Make, options: WriteOptions) -> Written:
        for turn in range(TURNS):
            old = self._store.get(call.served.storage, call.namespace, call.target.name)
            before = dict(call.presentation.view(old.object))
            wanted = in_path(make(before), call.kind, call.namespace, call.target.name)
            version = wanted["metadata"].get("resourceVersion")
            if not version:
                # What must not change was compared with this version, so this is the one to replace.
                wanted["metadata"]["resourceVersion"] = version = old.version
            if version != old.version:
                # Before anything is judged: what is wrong with a change of something else is of no interest.
                raise modified(call.kind, old.name)
            try:
                return await self._store_change(call, wanted, old, before, options)
            except Conflict:
                if turn == TURNS - 1:
                    raise
        raise AssertionError("the last turn returns or raises")

    async def _store_change(
        self, call: Call, wanted: Document, old: Resource, before: Document, options: WriteOptions, *, owned: bool = False
    ) -> Written:
        status = call.target.subresource == "status"
        self._rules.before_change(call, old)
        if status:
            draft = with_status_of(wanted, before)
        else:
            draft = self._rules.prepared(call.kind, without_status(wanted, call.kind, before), before)
            draft = signed(draft, call.kind, before, call.user.name)
        admitted = await self._admit(call, draft, before, options)
        if not owned:
            admitted = tracked(before, admitted, call.served.schema, self._write(call, options))
        admitted = settled(before, admitted)
        resource = self._storable(call, admitted)
        if options.dry_run:
            new = status_replaced(resource, old) if status else replaced(resource, old)
        elif status:
            new = await self._store.replace_status(resource)
        else:
            new = await self._store.replace(resource)
        return Written((new or resource).object)

    async def _admit(self, call: Call, draft: Document, before: Document | None, options: WriteOptions) -> Document:
        judge = partial(
            admit,
            call.served,
            draft,
            old=before,
            strictness=options.strictness,
            subresource=call.target.subresource or None,
            kinds=self._catalog,
            system=self._system.read(),
        )
        admitted, waited = await self._judging.judged(judge)
        if waited:
            self._require_unchanged(call, draft, before)
        call.warnings.extend(admitted.warnings)
        return admitted.document

    def _require_unchanged(self, call: Call, draft: Document, before: Document | None) -> None:
        """Raise StatusError when the kind or the namespace is not what it was before the object was judged."""
        if self._catalog.of_path(call.kind.group, call.kind.version, call.kind.plural) is not call.served:
            raise unavailable(f"the definition of {call.kind.plural} changed while the object was checked; please send it again")
        if before is None:
            self._rules.require_namespace(call, draft)

    def _write(self, call: Call, options: WriteOptions) -> Write:
        return Write(
            manager=options.manager,
            api_version=call.kind.api_version,
            now=self._stamp(),
            subresource=call.target.subresource,
            status_apart=call.kind.has_status,
        )

    def _stamp(self) -> str:
        return write_time(self._now())

    def _storable(self, call: Call, document: Document) -> Resource:
        """In the version that is stored, if it can be stored and read again. Raises StatusError, InvalidObject."""
        stored = document if call.kind.version == call.served.storage.version else dict(converted(document, call.served.storage))
        check_size(stored)
        check_values(stored)
        size = len(write_object(stored))
        if size > STORED_BYTES_MAX:
            raise too_large(f"the object would have {size} bytes; limit is {STORED_BYTES_MAX}")
        return Resource(self._rules.stored_kind(call), stored)

    def _find(self, call: Call) -> Resource | None:
        return self._find_named(call, call.target.name)

    def _find_named(self, call: Call, name: str) -> Resource | None:
        try:
            return self._store.get(call.served.storage, call.namespace, name)
        except NotFound:
            return None


def _refuse_duplicates(call: Call, body: Body, options: WriteOptions) -> None:
    told: Sequence[str] = [f'duplicate field "{path}"' for path in body.duplicates]
    if not told:
        return
    if options.strictness is Strictness.STRICT:
        raise bad_request(f"strict decoding error: {', '.join(told)}")
    if options.strictness is Strictness.WARN:
        call.warnings.extend(told)
