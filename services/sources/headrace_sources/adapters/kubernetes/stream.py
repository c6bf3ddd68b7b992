"""Follows one kind of objects, in one namespace or in all: watches it from its position, and lists
it when there is none yet, or when the API server no longer has the changes since.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from headrace.adapters.kubernetes.watcher import Change, Scope, VersionExpired, WatchApi
from headrace.domain.backoff import Backoff
from headrace.domain.errors import Temporary
from headrace.domain.filters import Filter
from headrace.domain.ports import Clock
from headrace_sources.adapters.kubernetes.deliveries import Deliveries
from headrace_sources.adapters.kubernetes.events import EventFormat, Verb, is_controlled_by
from headrace_sources.adapters.kubernetes.position import (
    KnownObject,
    Position,
    is_earlier,
    key_of,
    last_state,
    uid_of,
    version_of,
)
from headrace_sources.source import NotDelivered, SourceFault, event_time

logger = structlog.get_logger(__name__)

_BACKOFF: Final = Backoff((0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0))
SHORT_SECONDS: Final = 1.0
"""A watch that ends sooner is not opened again at once."""
_VERBS: Final = {"ADDED": Verb.ADD, "MODIFIED": Verb.UPDATE, "DELETED": Verb.DELETE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which changes are sent, and as what."""

    format: EventFormat
    owner: tuple[str, str] | None
    """apiVersion and kind of the controller that owns the objects; None for all objects."""
    filter: Filter | None

    def selects(self, found: Mapping[str, Any]) -> bool:
        """Whether an object is one of those that are followed."""
        return self.owner is None or is_controlled_by(found, *self.owner)


class Stream:
    """One kind in one scope. `run` follows it until it is cancelled."""

    def __init__(
        self,
        api: WatchApi,
        scope: Scope,
        selection: Selection,
        position: Position,
        deliveries: Deliveries,
        clock: Clock,
        *,
        moved: Callable[[], None],
        reached: Callable[[str], None],
    ) -> None:
        """`moved` is called when the position has changed; `reached` with an empty text when the
        watch is open, and with the problem when the API server cannot be used.
        """
        self._api = api
        self.scope = scope
        self._selection = selection
        self._position = position
        self.deliveries = deliveries
        self._clock = clock
        self._moved = moved
        self._reached = reached
        self.open = False
        """Whether the API server has accepted the watch."""

    async def run(self) -> None:
        """Follow it. Raises NotDelivered, and what the API server refuses for good."""
        failures, expired = 0, False
        while True:
            await self.deliveries.flush()
            try:
                if expired or not self._position.version:
                    await self._list()
                    expired = False
                if await self._watch() >= SHORT_SECONDS:
                    failures = 0
                    continue
            except (NotDelivered, SourceFault):
                raise
            except VersionExpired as error:
                logger.info("watch_expired", path=self._path, error=str(error))
                expired = True
                if failures == 0:
                    failures = 1
                    continue
            except Temporary as error:
                logger.warning("watch_failed", path=self._path, error=str(error))
                if failures > 0:
                    self._reached(str(error))
            failures += 1
            await asyncio.sleep(_BACKOFF.seconds(failures))

    @property
    def _path(self) -> str:
        return self.scope.kind.path(self.scope.namespace)

    async def _watch(self) -> float:
        """Follow the changes until the server ends the watch; return how long that was."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._api.watch(self.scope, self._position.version) as changes:
            self.open = True
            self._reached("")
            async for change in changes:
                await self._take(change)
        return loop.time() - began

    async def _take(self, change: Change) -> None:
        found, verb = change.object, _VERBS.get(change.type)
        version = version_of(found)
        if verb is None or not self._selection.selects(found):
            await self.deliveries.skip(partial(self._move, version))
            return
        known = None if verb is Verb.DELETE else KnownObject(uid_of(found), version)
        await self._send(verb, found, partial(self._commit, key_of(found), known, version))

    async def _list(self) -> None:
        """Send what has changed since the position; from the first list, nothing."""
        position, version, token = self._position, "", ""
        silent = not position.version
        present: dict[str, KnownObject] = {}
        while True:
            page = await self._api.list_page(self.scope, token=token)
            version = version or page.version
            if not silent and is_earlier(version, position.version):
                logger.warning(
                    "history_lost",
                    path=self._path,
                    next_step="changes are sent from now on; the API server has another history",
                )
                silent = True
            for found in filter(self._selection.selects, page.items):
                present[key_of(found)] = KnownObject(uid_of(found), version_of(found))
                if not silent:
                    await self._send_difference(found)
            token = page.next
            if not token:
                break
        if not silent:
            for key, known in list(position.objects.items()):
                if key not in present:
                    commit = partial(self._commit, key, None, "")
                    await self._send(Verb.DELETE, last_state(key, known), commit)
        await self.deliveries.flush()
        position.objects, position.complete = present, True
        self._move(version)

    async def _send_difference(self, found: Mapping[str, Any]) -> None:
        key, position = key_of(found), self._position
        current = KnownObject(uid_of(found), version_of(found))
        for verb in position.changes(found):
            if verb is Verb.DELETE:
                gone, known = last_state(key, position.objects[key]), None
                await self._send(verb, gone, partial(self._commit, key, known, ""))
            else:
                await self._send(verb, found, partial(self._commit, key, current, ""))

    async def _send(self, verb: Verb, found: Mapping[str, Any], commit: Callable[[], None]) -> None:
        time = event_time(self._clock.now())
        event = self._selection.format.make(self.scope.kind, verb, found, time)
        passes = self._selection.filter
        if event is None or (passes is not None and not passes.matches(event.attributes)):
            await self.deliveries.skip(commit)
        else:
            await self.deliveries.send(key_of(found), event, commit)

    def _commit(self, key: str, known: KnownObject | None, version: str) -> None:
        if known is None:
            self._position.objects.pop(key, None)
        else:
            self._position.objects[key] = known
        self._move(version)

    def _move(self, version: str) -> None:
        if version:
            self._position.version = version
        self._moved()
