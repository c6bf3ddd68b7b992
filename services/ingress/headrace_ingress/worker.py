"""How a worker process and its parent know of each other: orders on standard input, state on a
pipe.

The parent writes the settings (`headrace.runtime.exec_settings`) and keeps the pipe open: its end
means that the parent is gone, and so the worker ends too instead of holding the port for nobody.
The worker writes a line a second, and at once when its state changes: silence means that its loop
does not turn.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from typing import Final

from headrace.runtime.health import Health

BEAT_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05


class ParentLink:
    """The worker's end: a part of its service."""

    def __init__(self, *, orders: int, state: int) -> None:
        """File descriptors of the two pipes."""
        self._orders = orders
        self._state = state
        self._health: Health | None = None
        self._end: Callable[[str], None] | None = None
        self._told: str | None = None
        self._told_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, health: Health, end: Callable[[str], None]) -> None:
        """Tell the state of `health`; call `end` when the parent has gone."""
        self._health, self._end = health, end

    async def start(self) -> None:
        """Begin to tell and to listen."""
        os.set_blocking(self._orders, False)
        os.set_blocking(self._state, False)
        asyncio.get_running_loop().add_reader(self._orders, self._on_orders)
        self._tell()

    async def stop(self) -> None:
        """Tell no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            asyncio.get_running_loop().remove_reader(self._orders)

    def _on_orders(self) -> None:
        if os.read(self._orders, 4096) == b"":
            asyncio.get_running_loop().remove_reader(self._orders)
            if self._end is not None:
                self._end("the parent process is gone")

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        report = self._health.readiness() if self._health is not None else None
        state = (
            "" if report is None or report.passed else report.text(verbose=False).partition("\n")[0]
        )
        now = loop.time()
        if state != self._told or now - self._told_at >= BEAT_SECONDS:
            self._told, self._told_at = state, now
            with contextlib.suppress(
                OSError
            ):  # the parent is gone or does not read; its end is heard on the other pipe
                os.write(self._state, json.dumps(state).encode() + b"\n")
        self._timer = loop.call_later(_LOOK_SECONDS if state else BEAT_SECONDS / 4, self._tell)
