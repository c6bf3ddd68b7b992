"""One consumer from its joining to its close: polled, obeyed, and asked for its partitions, all in
the thread of its feed.

The client calls back inside `poll`, `consume` and `close`. Such calls do as little as they can;
what is asked of the broker there is the commit before a revocation and nothing else.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.assignment import Assignment, Ticket
from headrace.adapters.kafka.commits import Position, to_client
from headrace.adapters.kafka.complaints import Complaint, complaint
from headrace.adapters.kafka.hearing import Hearing, Witness
from headrace.adapters.kafka.messages import stored
from headrace.adapters.kafka.places import Places
from headrace.adapters.kafka.window import Window
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition
from headrace.runtime.failpoints import Failpoint, failpoint

_BUSY_POLL_SECONDS = 0.05
_IDLE_POLL_SECONDS = 0.19
"""Below 0.2 s the client waits in one go; above, it wakes every 0.2 s anyway."""
_SHORT_WAIT_SECONDS = 1.0
_PULSE_SECONDS = 1.0
_PAUSED_HIGHS_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_LOOK_ANSWER_SECONDS = 2.0
_PHANTOM_CHARACTERS_MAX = 240
_MEMBERS_ONLY = frozenset({KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH})
"""Refusals of a commit that a coordinator gives only after it has found the member in its group."""

log = logging.getLogger("headrace.kafka.client")


class Order(StrEnum):
    """What the loop may ask of a session."""

    COMMIT = "commit"
    PAUSE = "pause"
    RESUME = "resume"


class Orders:
    """What the loop wants; read by the thread between two polls."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Order, Any]] = deque()
        self.ending = False
        self.leaving = False
        """Whether a static member leaves its group at the end."""
        self.abandoned = False
        """End without drain or commit, and tell nothing any more."""


class Tell(Protocol):
    """Calls something on the loop, soon."""

    def __call__(self, told: Callable[..., object], *arguments: object) -> None: ...


class Broken(Exception):
    """This consumer is of no more use."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.detail)
        self.complaint = complaint


class Session:
    """One consumer's life."""

    def __init__(
        self,
        *,
        settings: dict[str, object],
        topics: Sequence[str],
        window: Window,
        places: Places,
        drain_seconds: float,
        assignment: Assignment,
        orders: Orders,
        tell: Tell,
        look_seconds: float,
        witness: Witness | None,
    ) -> None:
        self._look_seconds = look_seconds
        self._witness = witness
        self._topics = list(topics)
        self._window = window
        self._places = places
        self._drain_seconds = drain_seconds
        self._assignment = assignment
        self._orders = orders
        self._tell = tell
        self._static = "group.instance.id" in settings
        self._rejoin_due = (
            self._static and "session.timeout.ms" in settings
        )  # the classic protocol; KIP-848 has no second half
        self._joined = False
        self._phantom: str | None = None
        self._actions: dict[Order, Callable[[Any], None]] = {
            Order.COMMIT: self._commit,
            Order.PAUSE: self._pause,
            Order.RESUME: self._resume,
        }
        self._pending: list[Message] = []
        self._owned: set[Partition] = set()
        self._arrived: set[Partition] = set()  # Assigned, and not told to the loop yet.
        self._unplaced: dict[
            Partition, int
        ] = {}  # Without committed offset: where reading shall begin.
        self._paused: set[Partition] = set()
        self._throttled = False
        self._starved_since: float | None = None
        self._fatal: Complaint | None = None
        self._silent = (
            False  # True while the consumer is being closed: nothing is told to the loop any more.
        )
        self._pulse_at = 0.0
        self._highs_at = 0.0
        self._hearing = Hearing()
        self._look_at = time.monotonic() + look_seconds
        calls = {"error_cb": self._on_error, "on_commit": self._on_commit}
        self._consumer = Consumer({**settings, **calls}, logger=log)

    def serve(self) -> None:
        """Work until the orders say otherwise. Raises `Broken` and KafkaException when this
        consumer is of no more use.
        """
        try:
            self._subscribe(self._topics)
            while not self._orders.ending:
                self._step()
            if not self._orders.abandoned:
                self._farewell()
        finally:
            self._silent = True
            self._hearing.part(self._consumer.close)

    def _subscribe(self, topics: Sequence[str]) -> None:
        self._consumer.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _rejoin(self) -> None:
        """Have the group share its partitions out once more.

        A static member that died while it gave partitions back is put in its old place without a
        rebalance, and the second half of the hand-over never comes: those partitions would have no
        owner for as long as nobody joins or leaves. Brokers start a rebalance for a member that is
        known only when its subscription changes; so it gets a topic more, one that does not exist.
        Nothing moves and nobody stops reading when all partitions had an owner.
        """
        self._rejoin_due = False
        self._phantom = self._topics[0][:_PHANTOM_CHARACTERS_MAX] + ".rejoin"
        self._subscribe([*self._topics, self._phantom])

    def _step(self) -> None:
        while self._orders.queue:
            name, argument = self._orders.queue.popleft()
            self._actions[name](argument)
        if self._fatal is not None:
            raise Broken(self._fatal)
        if time.monotonic() >= self._look_at:
            self._look()
        if self._hearing.lost is not None:
            raise Broken(Complaint(AlarmKind.REBUILT, self._hearing.lost, fatal=True))
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
        message = self._consumer.poll(
            _BUSY_POLL_SECONDS if self._window.records or self._throttled else _IDLE_POLL_SECONDS
        )
        if message is not None:
            self._hearing.heard |= message.error() is None
            # A revocation may be served inside `consume`: it takes its messages out of `_pending`.
            self._pending.append(message)
            if room > 1:
                more = self._consumer.consume(room - 1, 0)
                self._pending.extend(more)
        if self._arrived:
            self._settle_in()
        if self._joined and self._rejoin_due:
            self._rejoin()
        if self._pending:
            self._hand_over()

    def _wait_for_room(self) -> None:
        now = time.monotonic()
        if self._starved_since is None:
            self._starved_since = now
        left = self._starved_since + _SHORT_WAIT_SECONDS - now
        if left > 0.0:
            # Orders wake it too. In turns of 50 ms a hundred feeds that are full would take a tenth
            # of a core for looking.
            self._window.await_room(left)
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
                ends.append(
                    (
                        Partition(message.topic() or "", message.partition() or 0),
                        message.offset() or 0,
                    )
                )
            else:
                self._complain(message, error)
        if records:
            failpoint(Failpoint.AFTER_POLL)
        if records or ends:
            self._window.hand(len(records), size, largest=largest)
            self._tell(self._assignment.received, records, ends)

    def _complain(self, message: Message, error: KafkaError) -> None:
        topic, number = message.topic(), message.partition()
        partition = (
            Partition(topic, number) if topic and number is not None and number >= 0 else None
        )
        if topic is not None and topic == self._phantom:
            return
        if error.code() != KafkaError._AUTO_OFFSET_RESET or partition is None:
            self._trouble(error, partition)
        elif partition in self._owned:
            self._go_on(partition)

    def _go_on(self, partition: Partition) -> None:
        """The client has stopped at this partition: it has no committed offset, or the log does not
        have it.
        """
        begin = self._unplaced.pop(partition, None)
        if begin is not None:
            self._places.place(self._consumer, partition, begin)
        elif (moved := self._places.out_of_range(self._consumer, partition)) is not None:
            offset, high = moved
            self._tell(lambda: self._assignment.moved(partition, offset, high=high))
        else:
            detail = (
                "the offset that should come next is not in the log; the partition stands still"
                " until one is committed"
            )
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
        """Once a second: how far the logs reach. What is paused is not fetched, so there the broker
        is asked, seldom.
        """
        now = time.monotonic()
        self._pulse_at = now + _PULSE_SECONDS
        highs = [
            (partition, high)
            for partition in self._owned
            if (high := self._places.cached_high(self._consumer, partition)) is not None
        ]
        resting = self._owned if self._throttled else self._owned & self._paused
        if resting and now >= self._highs_at:
            self._highs_at = now + _PAUSED_HIGHS_SECONDS
            highs += [
                (partition, high)
                for partition in resting
                if (high := self._places.asked_high(self._consumer, partition)) is not None
            ]
        if highs:
            self._tell(self._assignment.heard, highs)
        while self._assignment.begun_anew:
            self._begin_anew(self._assignment.begun_anew.popleft())

    def _look(self) -> None:
        """Whether this client still hears anybody. In an outage the question holds the thread up,
        which has nothing else to do then.
        """
        now = time.monotonic()
        self._hearing.ask(
            lambda: self._consumer.list_topics(self._topics[0], timeout=_LOOK_ANSWER_SECONDS),
            now,
            self._witness,
        )
        self._look_at = time.monotonic() + self._look_seconds

    def _begin_anew(self, partition: Partition) -> None:
        """The topic is another one of the same name: the client, which knows names, would read on
        at the old offset.
        """
        if partition not in self._owned:
            return
        moved = self._places.out_of_range(self._consumer, partition)
        offset, high = moved or (None, 0)
        self._tell(lambda: self._assignment.anew(partition, offset, high=high))
        if moved is None or self._throttled or partition in self._paused:
            self._consumer.pause(_unpositioned([partition]))

    # Commands.

    def _commit(self, positions: Sequence[Position]) -> None:
        owned = [each for each in positions if each.partition in self._owned]
        try:
            if owned:
                self._consumer.commit(offsets=to_client(owned), asynchronous=True)
                return
        except KafkaException as error:
            log.info("a commit could not be sent and is repeated: %s", error.args[0].name())
        self._tell(self._assignment.committed, None)

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """An asynchronous commit was answered.

        A refusal (STALE_MEMBER_EPOCH, REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, no coordinator)
        does not take partitions away: only a revocation or a loss does. It is committed again with
        the next tick. Some refusals only members get.
        """
        if error is not None and error.code() == KafkaError.FENCED_INSTANCE_ID:
            self._fatal = complaint(error)
        refused = (
            None
            if error is not None
            else {
                Partition(each.topic, each.partition)
                for each in partitions
                if each.error is not None
            }
        )
        if not refused and error is None:
            failpoint(Failpoint.AFTER_COMMIT)
        member = error is None or error.code() in _MEMBERS_ONLY
        self._tell(lambda: self._assignment.committed(refused, member=member))

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
        """Begin at the committed offsets, which the client looks up by itself; what else was
        committed is read outside this call.

        Some requests made inside a callback end the whole process (`list_topics`, an assertion in
        the client) or time out (`committed`).
        """
        consumer.incremental_assign(list(partitions))
        arrived = {Partition(each.topic, each.partition) for each in partitions}
        self._owned |= arrived
        self._arrived |= arrived
        self._joined = True

    def _settle_in(self) -> None:
        """Tell the loop where the partitions begin that were just assigned, before any record of
        theirs.
        """
        arrived, self._arrived = sorted(self._arrived), set()
        # Explicitly either way: the client remembers a pause across assignments, and a partition
        # that came back would stand still.
        (self._consumer.pause if self._throttled else self._consumer.resume)(_unpositioned(arrived))
        starts = self._places.of(self._consumer, arrived, _REQUEST_SECONDS)
        self._unplaced.update(starts.unplaced)
        self._tell(self._assignment.assigned, starts.positions)
        for missing in starts.missing:
            self._tell(
                self._assignment.alarmed,
                AlarmKind.OFFSET_MISSING,
                missing.detail,
                missing.partition,
            )

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        revoked = {Partition(each.topic, each.partition) for each in partitions}
        if not self._silent and not self._orders.abandoned:
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
        self._pending[:] = [
            each for each in self._pending if (each.topic(), each.partition()) not in partitions
        ]

    def _give_back(self, partitions: Collection[Partition]) -> None:
        """Let the loop drain these partitions, then commit what is done; the group waits
        meanwhile.
        """
        if not partitions:
            return
        ticket = Ticket(sorted(partitions))
        self._tell(self._assignment.revoking, ticket)
        if not ticket.wait(self._drain_seconds):
            self._tell(self._assignment.overdue, ticket)
            ticket.wait(min(self._drain_seconds, 1.0))
        failpoint(Failpoint.IN_REVOKE)
        if ticket.positions:
            self._commit_now(ticket.positions)

    def _commit_now(self, positions: Sequence[Position]) -> None:
        until = time.monotonic() + _REQUEST_SECONDS
        while True:
            try:
                answers = (
                    self._consumer.commit(offsets=to_client(positions), asynchronous=False) or []
                )
                error = next((each.error for each in answers if each.error is not None), None)
            except KafkaException as refused:
                error = refused.args[0]
            if error is None:
                failpoint(Failpoint.AFTER_COMMIT)
                return
            if time.monotonic() >= until or not _worth_repeating(error):
                detail = (
                    f"the last commit before giving partitions back was refused ({error.name()});"
                    " some records will be delivered again"
                )
                self._tell(self._assignment.alarmed, AlarmKind.COMMIT_FAILED, detail)
                return
            time.sleep(0.1)

    def _farewell(self) -> None:
        """Give everything back. A static member keeps its seat in the group unless it is told to
        leave.

        Closing never takes a static member out (KIP-345); unsubscribing does.
        """
        self._give_back(self._owned - self._arrived)
        self._silent = True
        if self._orders.leaving and self._static:
            self._consumer.unsubscribe()
            until = time.monotonic() + 1.0
            while self._owned and time.monotonic() < until:
                self._consumer.poll(0.05)
            self._consumer.poll(0.1)


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
