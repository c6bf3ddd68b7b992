"""Between the event loop and the thread of a consumer: commands in one direction, calls in the
other. Neither side ever waits for the other here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from headrace.adapters.kafka.consumer.callback_queue import CallbackQueues
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.positions import Position
from headrace.domain.record import Partition


class Command(StrEnum):
    """What the loop asks of the consumer."""

    COMMIT = "commit"
    PAUSE = "pause"
    RESUME = "resume"


class ConsumerCommands:
    """The channel of one feed. To be made on the event loop."""

    def __init__(self, callback_queues: CallbackQueues, flow: FlowControl) -> None:
        self._callbacks = callback_queues.queue(asyncio.get_running_loop())
        self._flow = flow
        self.commands: deque[tuple[Command, Any]] = deque()
        """Read by the thread between two polls."""
        self.stopping = False
        self.leave_group = False
        """Whether a static member leaves its group at the end."""
        self.abandoned = False
        """End without drain or commit, and report nothing."""

    # From the loop; all return at once.

    def commit(self, positions: Sequence[Position]) -> None:
        """Commit these; `Assignment.on_commit_answered` gets the result."""
        self._send(Command.COMMIT, positions)

    def pause(self, partition: Partition) -> None:
        """Read no more of this partition."""
        self._send(Command.PAUSE, partition)

    def resume(self, partition: Partition) -> None:
        """Read this partition again."""
        self._send(Command.RESUME, partition)

    def stop(self, *, leave: bool) -> None:
        """Drain, commit, close. `leave` also takes a static member out of its group."""
        self.leave_group = leave
        self.stopping = True
        self._flow.wake.set()

    def abandon(self) -> None:
        """Close without drain or commit."""
        self.abandoned = True
        self.stopping = True
        self._flow.wake.set()

    def _send(self, command: Command, argument: object) -> None:
        self.commands.append((command, argument))
        self._flow.wake.set()

    # From the thread.

    def call_on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call this on the loop, after everything that was passed before."""
        if self.abandoned:
            return
        try:
            self._callbacks.call_soon(callback, *arguments)
        except RuntimeError:  # The loop is closed: there is nothing left to work for.
            self.stopping = self.abandoned = True
