"""Restarts workers that could not be started or changed.

A routing record may fail to apply for reasons that have nothing to do with it (no thread, no
memory, an internal error). The other subscriptions continue; this one is logged, counted, shown in
readiness, and restarted until it works or its record is deleted.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final

import structlog

from headrace.domain.backoff import Backoff

logger = structlog.get_logger(__name__)

BACKOFF: Final = Backoff((1.0, 2.0, 4.0, 8.0, 16.0, 30.0))


class _FailedWorker:
    """One worker that does not work."""

    __slots__ = ("changed", "failed_again", "names", "reason")

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        """Fields of its log events: `key`, and the names of the subscription where they are
        known.
        """
        self.reason = ""
        self.failed_again = False
        """Whether it has failed since it was last started."""
        self.changed = asyncio.Event()


class SubscriptionSupervisor:
    """The workers that do not work at the moment, by routing key.

    `names` returns the fields by which the log names the subscription of a key, none if there is no
    such subscription; `start` applies the routing record of a key, or raises; `stop_worker` stops
    what exists of its worker; `spawn` runs a task that ends with the dispatcher; `count_failure` is
    called for every failure. A worker is stopped before it is started again, because its state is
    unknown.
    """

    def __init__(
        self,
        *,
        names: Callable[[str], Mapping[str, str]],
        start: Callable[[str], None],
        stop_worker: Callable[[str], Awaitable[None]],
        spawn: Callable[[Coroutine[None, None, None]], object],
        count_failure: Callable[[str], None],
    ) -> None:
        self._names = names
        self._start = start
        self._stop_worker = stop_worker
        self._spawn = spawn
        self._count_failure = count_failure
        self._failed_workers: dict[str, _FailedWorker] = {}

    @property
    def reason(self) -> str | None:
        """Why a worker does not work, for a readiness check; None when all do."""
        if not self._failed_workers:
            return None
        reasons = [
            f"{_shown(each.names)} ({each.reason})"
            for each in list(self._failed_workers.values())[:3]
        ]
        more = f" and {len(self._failed_workers) - 3} more" if len(self._failed_workers) > 3 else ""
        return (
            "subscription workers failed and are being restarted, see the log:"
            f" {', '.join(reasons)}{more}"
        )

    def on_route_changed(self, key: str) -> bool:
        """A routing record has changed. Return True when its worker is being restarted: that is
        then done at once, with the new record.
        """
        failed_worker = self._failed_workers.get(key)
        if failed_worker is not None:
            failed_worker.changed.set()
        return failed_worker is not None

    def on_failure(self, key: str, error: BaseException) -> None:
        """A worker could not be started or changed."""
        failed_worker = self._failed_workers.get(key)
        if failed_worker is None:
            names = {**self._names(key), "key": key}
            failed_worker = self._failed_workers[key] = _FailedWorker(names)
            self._spawn(self._restart(key, failed_worker))
        failed_worker.failed_again, failed_worker.reason = True, str(error) or type(error).__name__
        self._count_failure(key)
        logger.error(
            "worker_failed",
            **failed_worker.names,
            error=failed_worker.reason,
            next_step="it is restarted until it works",
            exc_info=error,
        )

    async def _restart(self, key: str, failed_worker: _FailedWorker) -> None:
        failures = 0
        while failed_worker.failed_again:
            failures += 1
            try:
                await self._stop_worker(key)
            except Exception as error:  # Start the new one all the same.
                logger.warning(
                    "worker_not_stopped", **failed_worker.names, error=str(error), exc_info=error
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACKOFF.seconds(failures)):
                    await failed_worker.changed.wait()
            failed_worker.changed.clear()
            failed_worker.failed_again = False
            try:
                self._start(key)
            except Exception as error:
                self.on_failure(key, error)
        del self._failed_workers[key]
        logger.info("worker_recovered", **failed_worker.names)


def _shown(names: Mapping[str, str]) -> str:
    if "name" not in names:
        return names["key"]
    return f"{names['kind']} {names['namespace']}/{names['name']}".strip()
