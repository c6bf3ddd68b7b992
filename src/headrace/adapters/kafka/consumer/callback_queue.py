"""Passes callbacks from many consumer threads to one event loop. The callbacks of one feed run in
order; the feeds take turns.

A thread that hands records over does not schedule a call on the loop itself. It puts a callback
into its queue, and the first thread to do so wakes the loop once for all threads. The loop then
serves the queues in turn, and after a millisecond everything else. A feed with a backlog therefore
delays a new record of another feed by one batch, and the responses of subscribers by one
millisecond, however many feeds are busy.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE_SECONDS = 0.001
"""How long the loop runs callbacks before it serves sockets and timers."""

Callback = tuple[Callable[..., object], tuple[object, ...]]


class CallbackQueues:
    """The callback queues of one process. Bounded by flow control: no feed has more than two
    batches in its queue.

    `deque.append` and `popleft` are atomic, so threads and loop need no lock: the code that clears
    a flag checks again what it guards.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._waiting: deque[CallbackQueue] = deque()
        self._scheduled = False

    def queue(self, loop: asyncio.AbstractEventLoop) -> "CallbackQueue":
        """Return a queue for one feed. All queues are served on the same loop."""
        return CallbackQueue(self, loop)

    def schedule(self, queue: "CallbackQueue") -> None:
        """Schedule a queue that has a callback. Raises RuntimeError when the loop is closed.
        Thread.
        """
        self._waiting.append(queue)
        if not self._scheduled:
            self._scheduled = True
            queue.loop.call_soon_threadsafe(self._run_ready, queue.loop)

    def _run_ready(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, until = self._waiting, self._now() + SLICE_SECONDS
        while waiting:
            queue = waiting.popleft()
            if queue.run_next():
                waiting.append(queue)
            if self._now() >= until:
                break
        if not waiting:
            self._scheduled = False
            if not waiting:  # Checked again: a thread may have seen the flag just before.
                return
            self._scheduled = True
        loop.call_soon(self._run_ready, loop)


class CallbackQueue:
    """The callbacks of one feed's thread."""

    __slots__ = ("_callbacks", "_queues", "_waiting", "loop")

    def __init__(self, queues: CallbackQueues, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queues = queues
        self._callbacks: deque[Callback] = deque()
        self._waiting = False

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call `callback` on the loop, after the callbacks before it. Raises RuntimeError when the
        loop is closed. Thread.
        """
        if self.loop.is_closed():
            raise RuntimeError("the event loop is closed")
        self._callbacks.append((callback, arguments))
        if not self._waiting:
            self._waiting = True
            self._queues.schedule(self)

    def run_next(self) -> bool:
        """Run the next callback; return whether there is more. Loop.

        A queue may be listed twice for a moment, so it may be empty.
        """
        if self._callbacks:
            callback, arguments = self._callbacks.popleft()
            try:
                callback(*arguments)
            except Exception as error:
                self.loop.call_exception_handler(
                    {"message": "a feed's listener failed", "exception": error}
                )
        if not self._callbacks:
            self._waiting = False
            # Checked again, as above: a callback may have been added meanwhile.
            if not self._callbacks or self._waiting:
                return False
            self._waiting = True
        return True
