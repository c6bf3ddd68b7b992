"""Repairs: parts of the dispatcher that could not be begun or changed are taken down and begun
again, and never missed in silence.

What a routing record asks for may fail for reasons that have nothing to do with it (no thread, no
memory, a mistake of ours). The other subscriptions go on; this one is said, counted, shown in
readiness, and tried again until it works or its record is gone.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine

import structlog

log = structlog.get_logger(__name__)

SECONDS_MIN = 1.0
SECONDS_MAX = 30.0


class _FailedWorker:
    """One part that does not work."""

    __slots__ = ("changed", "failed_again", "reason")

    def __init__(self) -> None:
        self.reason = ""
        self.failed_again = False
        """Whether it has failed since it was last begun."""
        self.changed = asyncio.Event()


class SubscriptionSupervisor:
    """What does not work at the moment, by routing key.

    `start` brings a part to what the routing table says, or raises; `stop_worker` ends what there
    is of it; `spawn` runs a task that ends with the dispatcher; `count_failure` is told of every
    failure. A part is taken down before it is begun again: nobody knows how far it came.
    """

    def __init__(
        self,
        *,
        start: Callable[[str], None],
        stop_worker: Callable[[str], Awaitable[None]],
        spawn: Callable[[Coroutine[None, None, None]], object],
        count_failure: Callable[[str], None],
    ) -> None:
        self._start = start
        self._stop_worker = stop_worker
        self._spawn = spawn
        self._count_failure = count_failure
        self._failed_workers: dict[str, _FailedWorker] = {}

    @property
    def reason(self) -> str | None:
        """Why something does not work, for a readiness check; None when everything does."""
        if not self._failed_workers:
            return None
        reasons = [f"{key} ({each.reason})" for key, each in list(self._failed_workers.items())[:3]]
        more = f" and {len(self._failed_workers) - 3} more" if len(self._failed_workers) > 3 else ""
        return (
            f"work could not be begun and is begun again, see the log: {', '.join(reasons)}{more}"
        )

    def on_route_changed(self, key: str) -> bool:
        """The record of this part has changed; True when the part is being repaired, which is then
        done at once and by the new record.
        """
        failed_worker = self._failed_workers.get(key)
        if failed_worker is not None:
            failed_worker.changed.set()
        return failed_worker is not None

    def on_failure(self, key: str, error: BaseException) -> None:
        """This part could not be begun or changed."""
        failed_worker = self._failed_workers.get(key)
        if failed_worker is None:
            failed_worker = self._failed_workers[key] = _FailedWorker()
            self._spawn(self._restart(key, failed_worker))
        failed_worker.failed_again, failed_worker.reason = True, str(error) or type(error).__name__
        self._count_failure(key)
        log.error(
            "work_not_begun",
            key=key,
            reason=failed_worker.reason,
            next_step="it is tried again",
            exc_info=error,
        )

    async def _restart(self, key: str, failed_worker: _FailedWorker) -> None:
        seconds = SECONDS_MIN
        while failed_worker.failed_again:
            try:
                await self._stop_worker(key)
            except (
                Exception
            ) as error:  # What is left of it must not keep the new one from being tried.
                log.warning("not_taken_down", key=key, reason=str(error), exc_info=error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(failed_worker.changed.wait(), seconds)
            failed_worker.changed.clear()
            failed_worker.failed_again = False
            seconds = min(seconds * 2, SECONDS_MAX)
            try:
                self._start(key)
            except Exception as error:
                self.on_failure(key, error)
        del self._failed_workers[key]
        log.info("work_begun_again", key=key)
