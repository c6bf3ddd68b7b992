"""Writes that come before this controller writes: at its start it is ready to read a few seconds earlier.

Where nobody else writes they wait for it, because scripts send each request once. Behind another controller they are answered at once.
"""

import asyncio
from collections.abc import Callable

from headrace.domain.control_ports import ResourceStore
from headrace_controller.api.statuses import unavailable

WAIT_SECONDS = 8.0
_LOOK_SECONDS = 0.02


class FirstWrites:
    """Holds writes while the store is about to write, or the first namespaces are being made."""

    def __init__(self, store: ResourceStore, prepared: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
        """`prepared`: whether a new writer has made what every installation has."""
        self._store = store
        self._prepared = prepared
        self._seconds = seconds

    async def wait(self) -> None:
        """Return when a write can be decided. Raises StatusError 503 when it has waited for long enough."""
        deadline = asyncio.get_running_loop().time() + self._seconds
        # Also time changes the answer (a lease grows old), so there is no one event to wait for.
        while self._is_near() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        if self._is_near():
            raise unavailable(f"Kafka has not let this controller write within {self._seconds:g} s; nothing was stored")

    def _is_near(self) -> bool:
        return self._store.leads_soon if self._store.epoch is None else not self._prepared()
