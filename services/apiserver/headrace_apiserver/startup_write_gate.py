"""Writes that come before this controller writes: at its start it is ready to read a few seconds
earlier.

Where nobody else writes they wait for it, because scripts send each request once. Behind another
controller they are answered at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from headrace.resources.control_ports import ResourceStore
from headrace_apiserver.statuses import outcome_unknown, unavailable

WAIT_SECONDS = 8.0
WRITE_DEADLINE_SECONDS = 9.5
"""Within which a write is answered, what it was held included, and the time that its body took left
out.
"""
_POLL_SECONDS = 0.02


class StartupWriteGate:
    """Holds writes while the store is about to write, or the first namespaces are being made."""

    def __init__(
        self, store: ResourceStore, prepared: Callable[[], bool], *, seconds: float = WAIT_SECONDS
    ) -> None:
        """`prepared`: whether a new writer has made what every installation has."""
        self._store = store
        self._prepared = prepared
        self._seconds = seconds

    async def wait(self) -> float:
        """Return when a write can be decided, with the seconds it was held. Raises StatusError 503
        when it has waited for long enough.
        """
        begun = asyncio.get_running_loop().time()
        deadline = begun + self._seconds
        # Also time changes the answer (a lease grows old), so there is no one event to wait for.
        while self._is_starting() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        if self._is_starting():
            raise unavailable(
                f"Kafka has not let this controller write within {self._seconds:g} s; nothing was"
                " stored"
            )
        return asyncio.get_running_loop().time() - begun

    def _is_starting(self) -> bool:
        return self._store.is_becoming_leader if self._store.epoch is None else not self._prepared()


@asynccontextmanager
async def write_deadline(
    held_seconds: float, *, seconds: float = WRITE_DEADLINE_SECONDS
) -> AsyncIterator[None]:
    """A write inside has what is left of the time for its answer. Raises StatusError 504, for it
    may be stored all the same.

    The store has a deadline of its own; this one is for a write that was held before.
    """
    try:
        async with asyncio.timeout(seconds - held_seconds) as deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        message = (
            "Kafka did not answer the write in time; it may have been stored, now or later: read"
            " before you write again"
        )
        raise outcome_unknown(message) from None
