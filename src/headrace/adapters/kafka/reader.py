"""The thread of a feed: it alone touches the consumer, and does nothing else.

A call on a consumer waits for the one that is running (librdkafka's Python client, since 2.16), so a second thread that commits or pauses
would stall as long as a poll lasts. Hence one owner: it polls for short times, obeys commands in between, serves rebalances, and hands
records to the loop in batches. When the loop has no room it waits a moment with the batch not yet read; only when that lasts is the
consumer paused (which throws away what was prefetched) and polled on, because rebalances must be served.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.assignment import Assignment, Ticket
from headrace.adapters.kafka.commits import Position, to_client
from headrace.adapters.kafka.complaints import Complaint, complaint
from headrace.adapters.kafka.messages import stored
from headrace.adapters.kafka.places import Places
from headrace.adapters.kafka.window import Window
from headrace.domain.feed import AlarmKind, OutOfRange
from headrace.domain.record import Partition

_BUSY_POLL_SECONDS = 0.05
_IDLE_POLL_SECONDS = 0.19
"""Below 0.2 s the client waits in one go; above, it wakes every 0.2 s anyway."""
_SHORT_WAIT_SECONDS = 1.0
_PULSE_SECONDS = 1.0
_PAUSED_HIGHS_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_FENCED_BACKOFF_SECONDS = 15.0
_HEALTHY_SECONDS = 60.0

_log = logging.getLogger("headrace.kafka.client")


class Broken(Exception):
    """This consumer is of no more use."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.detail)
        self.complaint = complaint


class Reader:
    """One consumer after another, all of the same group and topics, each driven by the same thread."""

    def __init__(
        self,
        *,
        settings: dict[str, object],
        topics: Sequence[str],
        window: Window,
        drain_seconds: float,
        out_of_range: OutOfRange,
        reach: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._window = window
        self._drain_seconds = drain_seconds
        self._places = Places(topics=self._topics, policy=out_of_range)
        self._reach = reach
        self._commands: deque[tuple[Callable[..., None], Any]] = deque()
        self._ending = False
        self._leaving = False
        self._abandoned = False
        self._reset()

    def _reset(self) -> None:
        self._pending: list[Message] = []
        self._owned: set[Partition] = set()
        self._arrived: set[Partition] = set()  # Assigned, and not told to the loop yet.
        self._unplaced: dict[Partition, int] = {}  # Without committed offset: where reading shall begin.
        self._paused: set[Partition] = set()
        self._throttled = False
        self._starved_since: float | None = None
        self._fatal: Complaint | None = None
        self._silent = False  # True while the consumer is being closed: nothing is told to the loop any more.
        self._pulse_at = 0.0
        self._highs_at = 0.0

    # From the loop.

    def start(self, assignment: Assignment, ended: Callable[[], None]) -> None:
        """Begin; what happens is told to `assignment`, and the thread's end to `ended`, on the running loop."""
        self._assignment = assignment
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"feed {self._settings['group.id']}", daemon=True)
        self._thread.start()

    def commit(self, positions: Sequence[Position]) -> None:
        """Commit these, and tell `Assignment.committed` how it went."""
        self._command(self._commit, positions)

    def pause(self, partition: Partition) -> None:
        """Read no more of this partition."""
        self._command(self._pause, partition)

    def resume(self, partition: Partition) -> None:
        """Read this partition again."""
        self._command(self._resume, partition)

    def stop(self, *, leave: bool) -> None:
        """Drain, commit, close; `leave` takes a static member out of its group too."""
        self._leaving = leave
        self._ending = True
        self._window.wake.set()

    def abandon(self) -> None:
        """Close without drain or commit."""
        self._abandoned = True
        self._ending = True
        self._window.wake.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread's end; not on the loop."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _command(self, action: Callable[..., None], argument: object) -> None:
        self._commands.append((action, argument))
        self._window.wake.set()

    # The thread.

    def _run(self) -> None:
        failures = 0
        while not self._ending:
            opened_at = time.monotonic()
            try:
                self._serve()
            except Broken as broken:
                trouble = broken.complaint
            except KafkaException as error:
                trouble = complaint(error.args[0])
            except Exception as error:  # A mistake of ours must not end deliveries in silence.
                _log.exception("the feed of group %s failed", self._settings["group.id"])
                trouble = Complaint(AlarmKind.REBUILT, f"the consumer's thread failed with {type(error).__name__}", fatal=True)
            else:
                break
            failures = 0 if time.monotonic() - opened_at > _HEALTHY_SECONDS else failures + 1
            wait = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            if trouble.kind is AlarmKind.FENCED:
                wait = max(wait, _FENCED_BACKOFF_SECONDS)
            self._tell(self._assignment.lost, None)
            self._tell(self._assignment.alarmed, trouble.kind, f"{trouble.detail}; a new consumer is made in {wait:g} s")
            self._sleep(wait)
        self._tell(self._ended)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._ending and (left := until - time.monotonic()) > 0:
            self._window.wake.clear()
            self._window.wake.wait(left)

    def _serve(self) -> None:
        """The life of one consumer."""
        self._reset()
        self._consumer = Consumer({**self._settings, "error_cb": self._on_error, "on_commit": self._on_commit}, logger=_log)
        try:
            self._consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
            while not self._ending:
                self._step()
            if not self._abandoned:
                self._farewell()
        finally:
            self._silent = True
            with contextlib.suppress(KafkaException, RuntimeError):
                self._consumer.close()

    def _step(self) -> None:
        while self._commands:
            action, argument = self._commands.popleft()
            action(argument)
        if self._fatal is not None:
            raise Broken(self._fatal)
        if time.monotonic() >= self._pulse_at:
            self._pulse()
        room = self._window.room()
        if self._throttled:
            if self._window.half_empty():
                self._unthrottle()
        elif room == 0:
            self._wait_for_room()
            return
        self._starved_since = None
        message = self._consumer.poll(_BUSY_POLL_SECONDS if self._window.records or self._throttled else _IDLE_POLL_SECONDS)
        if message is not None:
            # A revocation may be served inside `consume`: it takes its messages out of `_pending`.
            self._pending.append(message)
            if room > 1:
                more = self._consumer.consume(room - 1, 0)
                self._pending.extend(more)
        if self._arrived:
            self._settle_in()
        if self._pending:
            self._hand_over()

    def _wait_for_room(self) -> None:
        now = time.monotonic()
        if self._starved_since is None:
            self._starved_since = now
        if now - self._starved_since < _SHORT_WAIT_SECONDS:
            self._window.await_room(_BUSY_POLL_SECONDS)
            return
        self._throttled = True
        self._consumer.pause(_unpositioned(self._owned - self._paused))

    def _unthrottle(self) -> None:
        self._throttled = False
        self._consumer.resume(_unpositioned(self._owned - self._paused))

    def _hand_over(self) -> None:
        messages, self._pending = self._pending, []
        records, ends, size, largest = [], [], 0, 0
        for message in messages:
            error = message.error()
            if error is None:
                record = stored(message)
                size += record.size
                if record.size > largest:
                    largest = record.size
                records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.append((Partition(message.topic() or "", message.partition() or 0), message.offset() or 0))
            else:
                self._complain(message, error)
        if records:
            self._reach("after-poll")
        if records or ends:
            self._window.hand(len(records), size, largest=largest)
            self._tell(self._assignment.received, records, ends)

    def _complain(self, message: Message, error: KafkaError) -> None:
        topic, number = message.topic(), message.partition()
        partition = Partition(topic, number) if topic and number is not None and number >= 0 else None
        if error.code() != KafkaError._AUTO_OFFSET_RESET or partition is None:
            self._trouble(error, partition)
        elif partition in self._owned:
            self._go_on(partition)

    def _go_on(self, partition: Partition) -> None:
        """The client has stopped at this partition: it has no committed offset, or the log does not have it."""
        begin = self._unplaced.pop(partition, None)
        if begin is not None:
            self._places.place(self._consumer, partition, begin)
        elif (moved := self._places.out_of_range(self._consumer, partition)) is not None:
            offset, high = moved
            self._tell(lambda: self._assignment.moved(partition, offset, high=high))
        else:
            detail = "the offset that should come next is not in the log; the partition stands still until one is committed"
            self._tell(self._assignment.alarmed, AlarmKind.EXPIRED, detail, partition)
            return
        if self._throttled or partition in self._paused:
            self._consumer.pause(_unpositioned([partition]))

    def _on_error(self, error: KafkaError) -> None:
        self._trouble(error, None)

    def _trouble(self, error: KafkaError, partition: Partition | None) -> None:
        trouble = complaint(error)
        if trouble.fatal:
            self._fatal = trouble
        elif not self._silent:
            self._tell(self._assignment.alarmed, trouble.kind, trouble.detail, partition)

    def _pulse(self) -> None:
        """Once a second: how far the logs reach. What is paused is not fetched, so there the broker is asked, seldom."""
        now = time.monotonic()
        self._pulse_at = now + _PULSE_SECONDS
        highs = [
            (partition, high) for partition in self._owned if (high := self._places.cached_high(self._consumer, partition)) is not None
        ]
        resting = self._owned if self._throttled else self._owned & self._paused
        if resting and now >= self._highs_at:
            self._highs_at = now + _PAUSED_HIGHS_SECONDS
            highs += [
                (partition, high) for partition in resting if (high := self._places.asked_high(self._consumer, partition)) is not None
            ]
        if highs:
            self._tell(self._assignment.heard, highs)

    # Commands.

    def _commit(self, positions: Sequence[Position]) -> None:
        try:
            self._consumer.commit(offsets=to_client([each for each in positions if each.partition in self._owned]), asynchronous=True)
        except KafkaException:
            self._tell(self._assignment.committed, None)

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """An asynchronous commit was answered.

        A refusal (STALE_MEMBER_EPOCH, REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, no coordinator) says nothing about who owns the
        partitions: only a revocation or a loss does. It is committed again with the next tick.
        """
        if error is not None and error.code() == KafkaError.FENCED_INSTANCE_ID:
            self._fatal = complaint(error)
        refused = None if error is not None else {Partition(each.topic, each.partition) for each in partitions if each.error is not None}
        if not refused and error is None:
            self._reach("after-commit")
        self._tell(self._assignment.committed, refused)

    def _pause(self, partition: Partition) -> None:
        if partition in self._owned:
            self._paused.add(partition)
            self._consumer.pause(_unpositioned([partition]))

    def _resume(self, partition: Partition) -> None:
        if partition in self._paused:
            self._paused.discard(partition)
            if not self._throttled:
                self._consumer.resume(_unpositioned([partition]))

    # Rebalances; called by the client inside `poll`, `consume` and `close`.

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Begin at the committed offsets, which the client looks up by itself; what else was committed is read outside this call.

        Some requests made inside a callback end the whole process (`list_topics`, an assertion in the client) or time out (`committed`).
        """
        consumer.incremental_assign(list(partitions))
        arrived = {Partition(each.topic, each.partition) for each in partitions}
        self._owned |= arrived
        self._arrived |= arrived

    def _settle_in(self) -> None:
        """Tell the loop where the partitions begin that were just assigned, before any record of theirs."""
        arrived, self._arrived = sorted(self._arrived), set()
        if self._throttled:
            self._consumer.pause(_unpositioned(arrived))
        starts = self._places.of(self._consumer, arrived, _REQUEST_SECONDS)
        self._unplaced.update(starts.unplaced)
        self._tell(self._assignment.assigned, starts.positions)
        for missing in starts.missing:
            self._tell(self._assignment.alarmed, AlarmKind.OFFSET_MISSING, missing.detail, missing.partition)

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        revoked = {Partition(each.topic, each.partition) for each in partitions}
        if not self._silent:
            self._give_back((revoked & self._owned) - self._arrived)
        self._drop(revoked)
        consumer.incremental_unassign(list(partitions))

    def _on_lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        lost = {Partition(each.topic, each.partition) for each in partitions}
        self._drop(lost)
        if not self._silent:
            self._tell(self._assignment.lost, lost)
        consumer.incremental_unassign(list(partitions))

    def _drop(self, partitions: Collection[Partition]) -> None:
        self._owned.difference_update(partitions)
        self._arrived.difference_update(partitions)
        self._paused.difference_update(partitions)
        for partition in partitions:
            self._unplaced.pop(partition, None)
        self._pending[:] = [each for each in self._pending if (each.topic(), each.partition()) not in partitions]

    def _give_back(self, partitions: Collection[Partition]) -> None:
        """Let the loop drain these partitions, then commit what is done; the group waits meanwhile."""
        if not partitions:
            return
        ticket = Ticket(sorted(partitions))
        self._tell(self._assignment.revoking, ticket)
        if not ticket.wait(self._drain_seconds):
            self._tell(self._assignment.overdue, ticket)
            ticket.wait(min(self._drain_seconds, 1.0))
        self._reach("in-revoke-before-commit")
        if ticket.positions:
            self._commit_now(ticket.positions)

    def _commit_now(self, positions: Sequence[Position]) -> None:
        until = time.monotonic() + _REQUEST_SECONDS
        while True:
            try:
                answers = self._consumer.commit(offsets=to_client(positions), asynchronous=False) or []
                error = next((each.error for each in answers if each.error is not None), None)
            except KafkaException as refused:
                error = refused.args[0]
            if error is None:
                self._reach("after-commit")
                return
            if time.monotonic() >= until or not _worth_repeating(error):
                detail = f"the last commit before giving partitions back was refused ({error.name()}); some records will be delivered again"
                self._tell(self._assignment.alarmed, AlarmKind.COMMIT_FAILED, detail)
                return
            time.sleep(0.1)

    def _farewell(self) -> None:
        """Give everything back. A static member keeps its seat in the group unless it is told to leave.

        Closing never takes a static member out (KIP-345); unsubscribing does.
        """
        self._give_back(self._owned - self._arrived)
        self._silent = True
        if self._leaving and "group.instance.id" in self._settings:
            self._consumer.unsubscribe()
            until = time.monotonic() + 1.0
            while self._owned and time.monotonic() < until:
                self._consumer.poll(0.05)
            self._consumer.poll(0.1)

    def _tell(self, told: Callable[..., object], *arguments: object) -> None:
        if self._abandoned:
            return
        try:
            self._loop.call_soon_threadsafe(told, *arguments)
        except RuntimeError:  # The loop is closed: there is nobody left to work for.
            self._ending = self._abandoned = True


def _unpositioned(partitions: Collection[Partition]) -> list[TopicPartition]:
    return [TopicPartition(each.topic, each.partition) for each in partitions]


def _worth_repeating(error: KafkaError) -> bool:
    return error.retriable() or error.code() in {
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,
    }
