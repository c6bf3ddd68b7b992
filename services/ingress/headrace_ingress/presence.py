"""Telling the controller that this process is alive and how much of the routing table it has applied.

A resource becomes Ready, and a topic is deleted, only when every live process has said that it knows; so a change is told at once.
"""

import asyncio
import time
from collections.abc import Collection
from typing import Final

import structlog

from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Instance, Instances, RoutingFollower

_log = structlog.stdlib.get_logger("headrace.ingress")

_EVERY_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 5.0


class Presence:
    """Reports of one process, from `start` to `stop`."""

    def __init__(self, instance_id: str, *, instances: Instances, routes: RoutingFollower) -> None:
        self._id = instance_id
        self._instances = instances
        self._routes = routes
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        routes.watch(self._on_change)

    async def start(self) -> None:
        """Begin to report."""
        self._task = asyncio.create_task(self._report(), name="ingress presence")

    async def stop(self) -> None:
        """Say that this process is gone. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            await asyncio.wait_for(self._instances.leave(self._id), _REPORT_SECONDS)
        except (TimeoutError, HeadraceError) as error:
            _log.warning("could not say goodbye; the controller will notice in 10 s", error=str(error))

    def _on_change(self, keys: Collection[str]) -> None:
        del keys
        self._changed.set()

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            report = Instance(self._id, "ingress", self._routes.table.position, time.time_ns() // 1_000_000)
            try:
                await asyncio.wait_for(self._instances.report(report), _REPORT_SECONDS)
            except (TimeoutError, HeadraceError) as error:
                _log.warning("could not report the applied routing table", error=str(error))
            try:
                await asyncio.wait_for(self._changed.wait(), _EVERY_SECONDS)
            except TimeoutError:
                continue
