"""The feed over Kafka: one consumer group member, its thread and its partitions, behind the `Feed`
port.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.budget import QUEUE_BYTES_MAX, ByteBudget
from headrace.adapters.kafka.consumer.callback_queue import CallbackQueues
from headrace.adapters.kafka.consumer.commits import CommitBudget
from headrace.adapters.kafka.consumer.consumer_config import consumer_config
from headrace.adapters.kafka.consumer.consumer_thread import ConsumerThread
from headrace.adapters.kafka.consumer.flow_control import FlowControl
from headrace.adapters.kafka.consumer.topic_ids import TopicIds
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds, InitialOffset, OutOfRange
from headrace.domain.ports import FeedListener, Lag
from headrace.domain.record import Partition, StoredRecord

_CLOSE_SECONDS = 10.0


class KafkaFeed:
    """Records of `topics` for one member of `group`; implements `headrace.domain.ports.Feed`.

    `instance` makes it a static member (`group.instance.id`): after a crash it has its partitions
    back at once, and it keeps them while it is away for less than the session timeout. `commits`,
    `budget` and `callback_queues` are shared by all feeds of the process.
    """

    def __init__(
        self,
        options: KafkaOptions,
        *,
        group: str,
        topics: Sequence[str],
        bounds: FeedBounds,
        commits: CommitBudget,
        alarm: Callable[[FeedAlarm], None],
        instance: str | None = None,
        drain_seconds: float = 5.0,
        out_of_range: OutOfRange = OutOfRange.EARLIEST,
        initial_offset: InitialOffset = InitialOffset.COMMITTED,
        fetch_wait_ms: int = 500,
        budget: ByteBudget | None = None,
        topic_ids: TopicIds | None = None,
        callback_queues: CallbackQueues | None = None,
    ) -> None:
        self._group = group
        self._commits = commits
        self._alarm = alarm
        self._drain_seconds = drain_seconds
        self._budget = budget or ByteBudget(max(bounds.bytes_max, QUEUE_BYTES_MAX))
        self._topics, self._topic_ids = list(topics), topic_ids
        self._flow = FlowControl(bounds)
        queue_bytes = self._budget.queue_bytes()
        self._budget.register(self._flow)
        self._thread = ConsumerThread(
            settings=consumer_config(
                options,
                group=group,
                instance=instance,
                queue_bytes=queue_bytes,
                fetch_wait_ms=fetch_wait_ms,
            ),
            topics=topics,
            flow=self._flow,
            drain_seconds=drain_seconds,
            out_of_range=out_of_range,
            initial_offset=initial_offset,
            callback_queues=callback_queues or CallbackQueues(),
            health_check_seconds=options.health_check_seconds,
            reference=topic_ids,
        )
        self._assignment: Assignment | None = None
        self._ended: asyncio.Event | None = None
        self._stopping = False

    def start(self, listener: FeedListener) -> None:
        """As `Feed.start`; once. Returns at once: the group is joined by the thread."""
        if self._assignment is not None:
            raise RuntimeError(
                f"the feed of group {self._group} was started before; make a new one"
            )
        self._assignment = Assignment(
            group=self._group,
            listener=listener,
            flow=self._flow,
            budget=self._commits,
            commands=self._thread,
            alarm=self._alarm,
            topic_id=self._topic_ids.known if self._topic_ids is not None else lambda _: "",
        )
        if self._topic_ids is not None:
            self._topic_ids.watch(self._topics)
        self._ended = asyncio.Event()
        self._thread.start(self._assignment, self._ended.set)

    @property
    def assignment(self) -> Assignment:
        """What the feed holds. Raises RuntimeError before `start`."""
        if self._assignment is None:
            raise RuntimeError(f"the feed of group {self._group} has not been started")
        return self._assignment

    def done(self, record: StoredRecord) -> None:
        """As `Feed.done`."""
        self.assignment.done(record)

    def annotate(self, record: StoredRecord, note: str | None) -> None:
        """As `Feed.annotate`. Raises ValueError for a note that is not printable ASCII or
        too long.
        """
        self.assignment.annotate(record, note)

    def pause(self, partition: Partition) -> None:
        """As `Feed.pause`. It ends with the ownership of the partition."""
        self.assignment.pause(partition)

    def resume(self, partition: Partition) -> None:
        """As `Feed.resume`."""
        self.assignment.resume(partition)

    def verify_membership(self) -> None:
        """As `Feed.verify_membership`; a feed that holds nothing has nothing to doubt."""
        self.assignment.verify_membership()

    def lag(self) -> Mapping[Partition, Lag]:
        """As `Feed.lag`. The log's end is at most a second old, 5 s for what is paused."""
        return self.assignment.lag() if self._assignment is not None else {}

    @property
    def in_flight(self) -> int:
        """Records read and not done, in this process."""
        return self._flow.records

    async def stop(self, *, leave: bool = False) -> None:
        """As `Feed.stop`: drain, commit, close, within the drain deadline plus 10 s.

        A dynamic member leaves its group. A static one stays until its session ends, so that a
        restart moves nothing, unless `leave`.
        """
        if self._assignment is None or self._ended is None:
            return
        if not self._stopping:
            self._stopping = True
            self._thread.stop(leave=leave)
        deadline = self._drain_seconds + _CLOSE_SECONDS
        try:
            async with asyncio.timeout(deadline):
                await self._ended.wait()
        except TimeoutError:
            self._thread.abandon()
            detail = (
                f"the consumer did not close within {deadline:g} s and was abandoned; its"
                " partitions move when its session ends"
            )
            self._alarm(FeedAlarm(kind=AlarmKind.UNAVAILABLE, group=self._group, detail=detail))
        self._release(self._assignment)

    def _release(self, assignment: Assignment) -> None:
        assignment.close()
        self._budget.unregister(self._flow)
        if self._topic_ids is not None:
            self._topic_ids.unwatch(self._topics)
            self._topic_ids = None

    def abandon(self) -> None:
        """Stop as a crash would: nothing is drained or committed, and the listener hears nothing
        more.
        """
        self._stopping = True
        self._thread.abandon()
        if self._assignment is not None and self._ended is not None:
            self._release(self._assignment)
            self._ended.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the consumer's thread to end; blocks, so never call it on the loop. False when
        it still runs.
        """
        return self._thread.join(timeout_seconds)
