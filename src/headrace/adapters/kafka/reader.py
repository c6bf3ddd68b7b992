"""The thread of a feed: it alone touches the consumer, and does nothing else.

A call on a consumer waits for the one that is running (librdkafka's Python client, since 2.16), so
a second thread that commits or pauses would stall as long as a poll lasts. Hence one owner: it
polls for short times, obeys orders in between, serves rebalances, and hands records to the loop in
batches. When the loop has no room it waits a moment with the batch not yet read; only when that
lasts is the consumer paused (which throws away what was prefetched) and polled on, because
rebalances must be served.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException

from headrace.adapters.kafka.assignment import Assignment
from headrace.adapters.kafka.commits import Position
from headrace.adapters.kafka.complaints import Complaint, complaint
from headrace.adapters.kafka.hearing import Witness
from headrace.adapters.kafka.inbox import Inbox
from headrace.adapters.kafka.places import Places
from headrace.adapters.kafka.session import Broken, Order, Orders, Session, log
from headrace.adapters.kafka.window import Window
from headrace.domain.feed import AlarmKind, Begin, OutOfRange
from headrace.domain.record import Partition

_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_FENCED_BACKOFF_SECONDS = 15.0
_HEALTHY_SECONDS = 60.0


class Reader:
    """One consumer after another, all of the same group and topics, each driven by the same
    thread.
    """

    def __init__(
        self,
        *,
        settings: dict[str, object],
        topics: Sequence[str],
        window: Window,
        drain_seconds: float,
        out_of_range: OutOfRange,
        begin: Begin,
        inbox: Inbox,
        look_seconds: float,
        witness: Witness | None,
    ) -> None:
        self._look_seconds = look_seconds
        self._witness = witness
        self._settings = settings
        self._topics = topics
        self._window = window
        self._drain_seconds = drain_seconds
        self._places = Places(policy=out_of_range, begin=begin)
        self._inbox = inbox
        self._orders = Orders()

    # From the loop.

    def start(self, assignment: Assignment, ended: Callable[[], None]) -> None:
        """Begin; what happens is told to `assignment`, and the thread's end to `ended`, on the
        running loop.
        """
        self._assignment = assignment
        self._ended = ended
        self._slot = self._inbox.slot(asyncio.get_running_loop())
        self._thread = threading.Thread(
            target=self._run, name=f"feed {self._settings['group.id']}", daemon=True
        )
        self._thread.start()

    def commit(self, positions: Sequence[Position]) -> None:
        """Commit these, and tell `Assignment.committed` how it went."""
        self._order(Order.COMMIT, positions)

    def pause(self, partition: Partition) -> None:
        """Read no more of this partition."""
        self._order(Order.PAUSE, partition)

    def resume(self, partition: Partition) -> None:
        """Read this partition again."""
        self._order(Order.RESUME, partition)

    def stop(self, *, leave: bool) -> None:
        """Drain, commit, close; `leave` takes a static member out of its group too."""
        self._orders.leaving = leave
        self._orders.ending = True
        self._window.wake.set()

    def abandon(self) -> None:
        """Close without drain or commit."""
        self._orders.abandoned = True
        self._orders.ending = True
        self._window.wake.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread's end; not on the loop."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _order(self, order: Order, argument: object) -> None:
        self._orders.queue.append((order, argument))
        self._window.wake.set()

    # The thread.

    def _run(self) -> None:
        failures = 0
        while not self._orders.ending:
            opened_at = time.monotonic()
            trouble = self._serve()
            if trouble is None:
                break
            failures = 0 if time.monotonic() - opened_at > _HEALTHY_SECONDS else failures + 1
            wait = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            if trouble.kind is AlarmKind.FENCED:
                wait = max(wait, _FENCED_BACKOFF_SECONDS)
            self._tell(self._assignment.lost, None)
            self._tell(
                self._assignment.alarmed,
                trouble.kind,
                f"{trouble.detail}; a new consumer is made in {wait:g} s",
            )
            self._sleep(wait)
        self._tell(self._ended)

    def _serve(self) -> Complaint | None:
        """Work with one consumer until the end of the feed (None), or until it breaks."""
        self._orders.queue.clear()
        try:
            session = Session(
                settings=self._settings,
                topics=self._topics,
                window=self._window,
                places=self._places,
                drain_seconds=self._drain_seconds,
                assignment=self._assignment,
                orders=self._orders,
                tell=self._tell,
                look_seconds=self._look_seconds,
                witness=self._witness,
            )
            session.serve()
        except Broken as broken:
            return broken.complaint
        except KafkaException as error:
            return complaint(error.args[0])
        except Exception as error:  # A mistake of ours must not end deliveries in silence.
            log.exception("the feed of group %s failed", self._settings["group.id"])
            return Complaint(
                AlarmKind.REBUILT,
                f"the consumer's thread failed with {type(error).__name__}",
                fatal=True,
            )
        return None

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._orders.ending and (left := until - time.monotonic()) > 0:
            self._window.wake.clear()
            self._window.wake.wait(left)

    def _tell(self, told: Callable[..., object], *arguments: object) -> None:
        if self._orders.abandoned:
            return
        try:
            self._slot.tell(told, *arguments)
        except RuntimeError:  # The loop is closed: there is nobody left to work for.
            self._orders.ending = self._orders.abandoned = True
