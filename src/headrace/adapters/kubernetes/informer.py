"""Follows one kind: list it, watch from there, and list again whenever the API server has forgotten
the place or the watch ends.

What is told is the difference between what was known and what is: nothing that happened while a
watch was down is missed, only the steps in between are.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing

from headrace.adapters.kubernetes.client import (
    AccessDenied,
    KubernetesClient,
    ResourceVersionExpired,
)
from headrace.domain.errors import HeadraceError
from headrace.resources.resource import Resource, ResourceKey, ResourceKind

_log = logging.getLogger("headrace.kubernetes")

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)

HEALTHY_SECONDS = 10.0
"""How long list and watch must have gone well together for earlier failures to be forgotten."""

ChangeHandler = Callable[[ResourceKey, Resource | None, str], None]
"""Called on the loop with what stands under a key now (None: nothing) and the version in which it
came to that.
"""


class Informer:
    """One kind, in one namespace or (None) in all of them."""

    def __init__(
        self,
        client: KubernetesClient,
        kind: ResourceKind,
        namespace: str | None,
        on_change: ChangeHandler,
        *,
        optional: bool = False,
    ) -> None:
        """`optional`: that the kind may not be read counts as having read it, and is told by
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
        """Set once everything there was has been told."""
        self.last_error: str | None = "not read yet"
        """Why this kind cannot be followed at the moment."""

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=f"follow {self._kind.qualified}")

    def mute(self) -> None:
        """Tell nothing more; `stop` may take a moment."""
        self._muted = True

    async def stop(self) -> None:
        """End. Idempotent."""
        self._muted = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                version = await self._list()
                self.last_error = None
                await self._watch(version)
            except ResourceVersionExpired:
                _log.debug("the place in %s is forgotten, listing again", self._kind.qualified)
            except HeadraceError as error:
                self._record_failure(error, failures)
            except Exception as error:
                # An internal error, or an object that cannot be read, must not end the following in
                # silence.
                _log.exception("following %s failed", self._kind.qualified)
                self.last_error = str(error)
            # Only what has gone well for a while counts as well: a watch that ends at once must not
            # list everything again and again.
            failures = 0 if loop.time() - began > HEALTHY_SECONDS else failures + 1
            pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _list(self) -> str:
        items, version = await self._client.list(self._kind, self._namespace)
        there = {each.key for each in items}
        for each in items:
            self._notify(each.key, each, each.version)
        for key in self._known - there:
            self._notify(key, None, version)
        self._known = there
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

    def _record_failure(self, error: HeadraceError, failures: int) -> None:
        self.last_error = str(error)
        if failures == 0:
            _log.warning("%s cannot be followed at the moment: %s", self._kind.qualified, error)
        if self._optional and isinstance(error, AccessDenied):
            # Whoever waits for what may not be read would wait for ever. Of a kind that must be
            # read nothing is known then, and nothing known is not nothing there.
            self.synced.set()

    def _notify(self, key: ResourceKey, resource: Resource | None, version: str) -> None:
        if not self._muted:
            self._on_change(key, resource, version)
