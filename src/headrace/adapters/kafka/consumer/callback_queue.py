"""From many consumer threads to one loop: what each told, in its order, a little of one and then of
the next.

A thread that hands records over does not call the loop for itself. It puts them in its slot, and
the first of all threads to do so wakes the loop, once for all. There the slots take turns, and
after a millisecond everything else does: so a feed with a backlog holds a fresh record of another
one up for one hand-over, and the answers of subscribers for one millisecond, however many feeds are
busy.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE_SECONDS = 0.001
"""How long the loop listens to threads before it turns to sockets and timers."""

Callback = tuple[Callable[..., object], tuple[object, ...]]


class CallbackQueues:
    """The slots of one process. Bounded by the feeds' windows: none has more than two hand-overs on
    their way.

    `deque.append` and `popleft` are atomic, so threads and loop need no lock: whoever clears a flag
    looks again at what it guards.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._waiting: deque[CallbackQueue] = deque()
        self._scheduled = False

    def queue(self, loop: asyncio.AbstractEventLoop) -> "CallbackQueue":
        """A place of its own for one feed; all are served on the same loop."""
        return CallbackQueue(self, loop)

    def schedule(self, queue: "CallbackQueue") -> None:
        """This slot has something. Raises RuntimeError when the loop is closed. Thread."""
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
            if not waiting:  # Asked once more: a thread that came just before saw the loop awake.
                return
            self._scheduled = True
        loop.call_soon(self._run_ready, loop)


class CallbackQueue:
    """What one feed's thread tells."""

    __slots__ = ("_callbacks", "_queues", "_waiting", "loop")

    def __init__(self, queues: CallbackQueues, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queues = queues
        self._callbacks: deque[Callback] = deque()
        self._waiting = False

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """Have this called on the loop, after what was told before. Raises RuntimeError when the
        loop is closed. Thread.
        """
        if self.loop.is_closed():
            raise RuntimeError("the loop that listened is closed")
        self._callbacks.append((callback, arguments))
        if not self._waiting:
            self._waiting = True
            self._queues.schedule(self)

    def run_next(self) -> bool:
        """Call the next thing; whether there is more. Loop.

        A slot may be listed twice for a moment, so there may be nothing.
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
            if (
                not self._callbacks or self._waiting
            ):  # As in the inbox: what came in between must not be left lying.
                return False
            self._waiting = True
        return True
