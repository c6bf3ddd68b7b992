"""Writes that arrive before this controller is the leader: at its start it can serve reads a few
seconds earlier.

If there is no other leader, they wait, because scripts send each request once. On a standby they
are rejected at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from headrace.resources.control_ports import ResourceStore
from headrace_apiserver.statuses import outcome_unknown, unavailable

WAIT_SECONDS = 8.0
WRITE_DEADLINE_SECONDS = 9.5
"""Deadline of the response to a write. The time in the gate counts, the time of receiving the body
does not.
"""
_POLL_SECONDS = 0.02


class StartupWriteGate:
    """Holds writes while this process is becoming the leader or creates the initial namespaces."""

    def __init__(
        self, store: ResourceStore, prepared: Callable[[], bool], *, seconds: float = WAIT_SECONDS
    ) -> None:
        """`prepared`: whether a new leader has created what every installation has."""
        self._store = store
        self._prepared = prepared
        self._seconds = seconds

    async def wait(self) -> float:
        """Return when a write can be handled, with the seconds it was held. Raises StatusError 503
        after `seconds`.
        """
        start = asyncio.get_running_loop().time()
        deadline = start + self._seconds
        # The answer also changes with time (a lease expires), so there is no event to wait for.
        while self._is_starting() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        if self._is_starting():
            raise unavailable(
                f"this controller did not become the leader within {self._seconds:g} s; nothing was"
                " stored"
            )
        return asyncio.get_running_loop().time() - start

    def _is_starting(self) -> bool:
        return self._store.is_becoming_leader if self._store.epoch is None else not self._prepared()


@asynccontextmanager
async def write_deadline(
    held_seconds: float, *, seconds: float = WRITE_DEADLINE_SECONDS
) -> AsyncIterator[None]:
    """Limits the write inside to the rest of its time. Raises StatusError 504: the write may have
    been stored.

    The store has a deadline of its own; this one is for a write that was held before.
    """
    try:
        async with asyncio.timeout(seconds - held_seconds) as deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        message = (
            "Kafka did not acknowledge the write in time; it may have been stored, now or later:"
            " read before you write again"
        )
        raise outcome_unknown(message) from None
