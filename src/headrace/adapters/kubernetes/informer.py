"""Follows one kind: lists it, watches from there, and lists again whenever the resourceVersion has
expired or the watch ends.

After a list, the difference to the known objects is reported: no change that happened while no
watch was open is missed, except for intermediate states.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import structlog

from headrace.adapters.kubernetes.client import (
    AccessDenied,
    KubernetesClient,
    ResourceVersionExpired,
)
from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError, NotFound
from headrace.resources.control_ports import KIND_NOT_READ, KIND_NOT_SERVED
from headrace.resources.resource import Resource, ResourceKey, ResourceKind

logger = structlog.get_logger(__name__)

_BACKOFF: Final = Backoff((0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0))

HEALTHY_SECONDS = 10.0
"""How long list and watch must have worked for earlier failures to be forgotten."""

ChangeHandler = Callable[[ResourceKey, Resource | None, str], None]
"""Called on the event loop with the object that a key has now (None: none) and the version of that
change.
"""


class Informer:
    """One kind, in one namespace or in all of them (None)."""

    def __init__(
        self,
        client: KubernetesClient,
        kind: ResourceKind,
        namespace: str | None,
        on_change: ChangeHandler,
        *,
        optional: bool = False,
    ) -> None:
        """`optional`: a kind that must not be read counts as synced, with the reason in
        `last_error`.
        """
        self._client = client
        self._optional = optional
        self._muted = False
        self._kind = kind
        self._namespace = namespace
        self._on_change = on_change
        self._known: set[ResourceKey] = set()
        self._task: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()
        """Set once all existing objects have been reported."""
        self.last_error: str | None = KIND_NOT_READ
        """Why this kind cannot be followed at the moment; None if it can."""

    def start(self) -> None:
        """Start."""
        self._task = asyncio.create_task(self._run(), name=f"follow {self._kind.qualified}")

    def mute(self) -> None:
        """Report no further changes; `stop` may take a moment."""
        self._muted = True

    async def stop(self) -> None:
        """Stop. Idempotent."""
        self._muted = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        failures, healthy = 0, True
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            try:
                version = await self._list()
                self.last_error = None
                await self._watch(version)
            except ResourceVersionExpired:
                logger.debug("resource_version_expired", kind=self._kind.qualified)
            except NotFound as error:
                self._record_failure(error, log=healthy)
                if self._optional:
                    self._forget(KIND_NOT_SERVED)
            except HeadraceError as error:
                self._record_failure(error, log=healthy)
            except Exception as error:
                # An internal error, or an object that cannot be read, must not end this task
                # silently.
                logger.exception(
                    "informer_internal_error",
                    kind=self._kind.qualified,
                    error=repr(error),
                    next_step="please report this as a bug of Headrace",
                )
                self.last_error = str(error)
            # Only a watch that has worked for a while resets the backoff: one that ends immediately
            # must not cause list after list.
            healthy = loop.time() - started_at > HEALTHY_SECONDS
            failures = 1 if healthy else failures + 1
            await asyncio.sleep(_BACKOFF.seconds(failures) * random.uniform(0.8, 1.2))

    async def _list(self) -> str:
        items, version = await self._client.list(self._kind, self._namespace)
        present = {each.key for each in items}
        for each in items:
            self._notify(each.key, each, each.version)
        for key in self._known - present:
            self._notify(key, None, version)
        self._known = present
        self.synced.set()
        return version

    async def _watch(self, version: str) -> None:
        async with aclosing(self._client.watch(self._kind, self._namespace, version)) as events:
            async for seen in events:
                key = seen.resource.key
                if seen.deleted:
                    self._known.discard(key)
                else:
                    self._known.add(key)
                self._notify(key, None if seen.deleted else seen.resource, seen.resource.version)

    def _forget(self, reason: str) -> None:
        """The kind has no definition, and so no objects: those of a deleted definition are gone."""
        for key in self._known:
            self._notify(key, None, "")
        self._known = set()
        self.last_error = reason

    def _record_failure(self, error: HeadraceError, *, log: bool) -> None:
        self.last_error = str(error)
        if log:
            logger.warning("list_watch_failed", kind=self._kind.qualified, error=str(error))
        if self._optional and isinstance(error, AccessDenied):
            # Without this, a caller that waits for an optional kind without permission would block
            # forever. A required kind must not be marked synced: "unknown" is not "empty".
            self.synced.set()

    def _notify(self, key: ResourceKey, resource: Resource | None, version: str) -> None:
        if not self._muted:
            self._on_change(key, resource, version)
