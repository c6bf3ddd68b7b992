"""Work that the writer does by itself after changes of the store: a task that wakes, works, and
waits for the next change.

A standby runs the same tasks and they do nothing; so whoever takes over goes on where the other
stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from headrace.domain.errors import HeadraceError
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change
from headrace.runtime.service import end_task

log = structlog.stdlib.get_logger("headrace.controller.api")

_AGAIN_SECONDS = (0.2, 1.0, 5.0)

Reconcile = Callable[[], Awaitable[float | None]]
"""Does what there is to do; returns after how many seconds it wants to be called again without a
change.
"""


class ControlLoop:
    """One such task."""

    def __init__(
        self,
        name: str,
        store: ResourceStore,
        reconcile: Reconcile,
        is_relevant: Callable[[Change], bool],
    ) -> None:
        """`is_relevant` tells changes after which there may be something to do; it is asked on the
        loop for every change.
        """
        self._name = name
        self._store = store
        self._reconcile = reconcile
        self._is_relevant = is_relevant
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Take notice of changes; none at all means that this process became, or ceased to be, the
        writer.
        """
        if not changes or any(map(self._is_relevant, changes)):
            self._woken.set()

    def wake(self) -> None:
        """Work now."""
        self._woken.set()

    async def start(self) -> None:
        """Begin with whatever there is to do."""
        self._woken.set()
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End; what was not done is done after the next start."""
        task, self._task = self._task, None
        await end_task(task)

    async def _run(self) -> None:
        failures = 0
        pause: float | None = None
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            pause = None
            if self._store.epoch is None:
                continue
            try:
                pause = await self._reconcile()
                failures = 0
            except HeadraceError as error:
                pause = _AGAIN_SECONDS[min(failures, len(_AGAIN_SECONDS) - 1)]
                failures += 1
                log.warning(
                    "a duty could not be done, trying again",
                    duty=self._name,
                    error=str(error),
                    seconds=pause,
                )
            except Exception:
                pause = _AGAIN_SECONDS[-1]
                log.exception("a duty failed by an internal error", duty=self._name)
