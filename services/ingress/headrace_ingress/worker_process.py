"""The link between a worker process and its parent: the worker gets its settings on standard input
and reports its state on a pipe.

The parent writes the settings (`headrace.runtime.exec_settings`) and keeps standard input open. End
of file means that the parent has exited; the worker then exits too, so that it does not keep using
the port. The worker writes a line every second, and immediately when its state changes. If no lines
arrive, its event loop is blocked.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from typing import Final

from headrace.runtime.health import Health

HEARTBEAT_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.05


class ParentLink:
    """The worker's side of the link; a component of its service."""

    def __init__(self, *, settings_fd: int, state_fd: int) -> None:
        """`settings_fd` and `state_fd` are the file descriptors of the two pipes."""
        self._settings_fd = settings_fd
        self._state_fd = state_fd
        self._health: Health | None = None
        self._end: Callable[[str], None] | None = None
        self._reported: str | None = None
        self._reported_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, health: Health, end: Callable[[str], None]) -> None:
        """Report the state of `health`; call `end` when the parent has exited."""
        self._health, self._end = health, end

    async def start(self) -> None:
        """Start reporting, and watch for the exit of the parent."""
        os.set_blocking(self._settings_fd, False)
        os.set_blocking(self._state_fd, False)
        asyncio.get_running_loop().add_reader(self._settings_fd, self._on_parent_input)
        self._report()

    async def stop(self) -> None:
        """Stop reporting. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            asyncio.get_running_loop().remove_reader(self._settings_fd)

    def _on_parent_input(self) -> None:
        if os.read(self._settings_fd, 4096) == b"":
            asyncio.get_running_loop().remove_reader(self._settings_fd)
            if self._end is not None:
                self._end("the parent process is gone")

    def _report(self) -> None:
        loop = asyncio.get_running_loop()
        report = self._health.readiness() if self._health is not None else None
        state = (
            "" if report is None or report.passed else report.text(verbose=False).partition("\n")[0]
        )
        now = loop.time()
        if state != self._reported or now - self._reported_at >= HEARTBEAT_SECONDS:
            self._reported, self._reported_at = state, now
            # On an error the parent has exited or does not read; the other pipe shows its exit.
            with contextlib.suppress(OSError):
                os.write(self._state_fd, json.dumps(state).encode() + b"\n")
        self._timer = loop.call_later(
            _POLL_SECONDS if state else HEARTBEAT_SECONDS / 4, self._report
        )
