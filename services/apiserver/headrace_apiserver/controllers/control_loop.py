"""The loop of a controller: a task that wakes after relevant changes of the store, reconciles, and
waits for the next change.

A standby runs the same tasks, but they do nothing until it becomes the leader; it then continues
where the former leader stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change
from headrace.runtime.tasks import end_task

logger = structlog.get_logger(__name__)

_BACKOFF: Final = Backoff((0.2, 1.0, 5.0))

Reconcile = Callable[[], Awaitable[float | None]]
"""Does the work that is due; returns the delay in seconds after which it wants to be called again
even without a change, or None.
"""


class ControlLoop:
    """Runs one controller's `reconcile`."""

    def __init__(
        self,
        name: str,
        store: ResourceStore,
        reconcile: Reconcile,
        is_relevant: Callable[[Change], bool],
    ) -> None:
        """`is_relevant` selects changes after which there may be work; it is called on the event
        loop for every change.
        """
        self._name = name
        self._store = store
        self._reconcile = reconcile
        self._is_relevant = is_relevant
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Handle changes of the store; an empty sequence means that this process became the leader,
        or is no longer the leader.
        """
        if not changes or any(map(self._is_relevant, changes)):
            self._woken.set()

    def wake(self) -> None:
        """Reconcile soon."""
        self._woken.set()

    async def start(self) -> None:
        """Start the task; it reconciles at once."""
        self._woken.set()
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Cancel the task; unfinished work is done after the next start."""
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
                failures += 1
                pause = _BACKOFF.seconds(failures)
                logger.warning(
                    "reconcile_failed",
                    controller=self._name,
                    error=str(error),
                    retry_seconds=pause,
                )
            except Exception:
                pause = _BACKOFF.longest
                logger.exception(
                    "reconcile_internal_error",
                    controller=self._name,
                    retry_seconds=pause,
                    next_step="please report this as a bug of Headrace",
                )
