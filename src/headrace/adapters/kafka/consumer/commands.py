"""Connects the event loop and the thread of a consumer: commands in one direction, calls in the
other. Neither side ever waits for the other here.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
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
    SEEK = "seek"
    TAKE_OVER = "take over"


class ConsumerCommands:
    """The channel of one feed. Create it on the event loop."""

    def __init__(self, callback_queues: CallbackQueues, flow: FlowControl) -> None:
        self._callbacks = callback_queues.queue(asyncio.get_running_loop())
        self._flow = flow
        self.commands: deque[tuple[Command, Any]] = deque()
        """Read by the thread between two polls."""
        self.reported: Counter[Partition] = Counter()
        """How often partitions were reported as assigned that the loop has not taken over yet. What
        it asks for them until then is about an assignment before: a partition may be lost and
        assigned again in one poll. Thread.
        """
        self.stopping = False
        self.leave_group = False
        """Whether a static member leaves its group at the end."""
        self.abandoned = False
        """Whether the thread ends without drain or commit, and reports nothing."""
        self.losses = 0
        """How often the thread has reported lost partitions. The loop handles that later."""

    # Called by the loop; all return immediately.

    def commit(self, positions: Sequence[Position]) -> None:
        """Commit these positions; `Assignment.on_commit_answered` gets the result."""
        self._send(Command.COMMIT, positions)

    def pause(self, partition: Partition) -> None:
        """Stop reading this partition."""
        self._send(Command.PAUSE, partition)

    def resume(self, partition: Partition) -> None:
        """Read this partition again."""
        self._send(Command.RESUME, partition)

    def seek(self, position: Position) -> None:
        """Continue reading this partition there. What was read before may still arrive."""
        self._send(Command.SEEK, position)

    def take_over(self, partitions: Sequence[Partition]) -> None:
        """These were reported as assigned. What was sent before is about another assignment."""
        self._send(Command.TAKE_OVER, partitions)

    def stop(self, *, leave: bool) -> None:
        """Drain, commit, close. With `leave`, a static member also leaves its group."""
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

    # Called by the thread.

    def clear(self) -> None:
        """Drop all commands: they are for a consumer that has ended."""
        while self.commands:
            command, argument = self.commands.popleft()
            if command is Command.TAKE_OVER:
                self.reported.subtract(argument)

    def report_lost(
        self,
        callback: Callable[[Collection[Partition] | None], object],
        partitions: Collection[Partition] | None,
    ) -> None:
        """Call `callback` on the loop with lost partitions (None: all). `losses` is counted at
        once.
        """
        self.losses += 1
        self.call_on_loop(callback, partitions)

    def call_on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call `callback` on the loop, after all earlier calls."""
        if self.abandoned:
            return
        try:
            self._callbacks.call_soon(callback, *arguments)
        except RuntimeError:  # The loop is closed: nobody needs the results.
            self.stopping = self.abandoned = True
