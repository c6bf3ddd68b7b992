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


class _Ailing:
    """One part that does not work."""

    __slots__ = ("again", "changed", "reason")

    def __init__(self) -> None:
        self.reason = ""
        self.again = False
        """Whether it has failed since it was last begun."""
        self.changed = asyncio.Event()


class Repairs:
    """What does not work at the moment, by routing key.

    `begin` brings a part to what the routing table says, or raises; `take_down` ends what there is
    of it; `spawn` runs a task that ends with the dispatcher; `count` is told of every failure. A
    part is taken down before it is begun again: nobody knows how far it came.
    """

    def __init__(
        self,
        *,
        begin: Callable[[str], None],
        take_down: Callable[[str], Awaitable[None]],
        spawn: Callable[[Coroutine[None, None, None]], object],
        count: Callable[[str], None],
    ) -> None:
        self._begin = begin
        self._take_down = take_down
        self._spawn = spawn
        self._count = count
        self._ailing: dict[str, _Ailing] = {}

    @property
    def reason(self) -> str | None:
        """Why something does not work, for a readiness check; None when everything does."""
        if not self._ailing:
            return None
        told = [f"{key} ({each.reason})" for key, each in list(self._ailing.items())[:3]]
        more = f" and {len(self._ailing) - 3} more" if len(self._ailing) > 3 else ""
        return f"work could not be begun and is begun again, see the log: {', '.join(told)}{more}"

    def changed(self, key: str) -> bool:
        """The record of this part has changed; True when the part is being repaired, which is then
        done at once and by the new record.
        """
        ailing = self._ailing.get(key)
        if ailing is not None:
            ailing.changed.set()
        return ailing is not None

    def failed(self, key: str, error: BaseException) -> None:
        """This part could not be begun or changed."""
        ailing = self._ailing.get(key)
        if ailing is None:
            ailing = self._ailing[key] = _Ailing()
            self._spawn(self._repair(key, ailing))
        ailing.again, ailing.reason = True, str(error) or type(error).__name__
        self._count(key)
        log.error(
            "work_not_begun",
            key=key,
            reason=ailing.reason,
            next_step="it is tried again",
            exc_info=error,
        )

    async def _repair(self, key: str, ailing: _Ailing) -> None:
        seconds = SECONDS_MIN
        while ailing.again:
            try:
                await self._take_down(key)
            except (
                Exception
            ) as error:  # What is left of it must not keep the new one from being tried.
                log.warning("not_taken_down", key=key, reason=str(error), exc_info=error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ailing.changed.wait(), seconds)
            ailing.changed.clear()
            ailing.again = False
            seconds = min(seconds * 2, SECONDS_MAX)
            try:
                self._begin(key)
            except Exception as error:
                self.failed(key, error)
        del self._ailing[key]
        log.info("work_begun_again", key=key)
