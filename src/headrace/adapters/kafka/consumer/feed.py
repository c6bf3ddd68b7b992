"""The feed on Kafka: an assignment and the thread of its consumer, with their start and stop."""

import asyncio
from collections.abc import Callable

from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.consumer_thread import ConsumerThread
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.ports import FeedListener

_CLOSE_SECONDS = 10.0


class KafkaFeed(Assignment):
    """Records of some topics for one member of a group; implements `headrace.domain.ports.Feed`.

    The methods for records and partitions are inherited and not delegated, because `done` is called
    for each event.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        alarm: Callable[[FeedAlarm], None],
    ) -> None:
        super().__init__(config, shared, alarm)
        queue_bytes = shared.byte_budget.queue_bytes()
        shared.byte_budget.register(self.flow)
        self._ended = asyncio.Event()
        self._thread = ConsumerThread(
            self, lambda: config.client_settings(queue_bytes=queue_bytes), self._ended.set
        )
        self._started = False
        self._released = False

    def start(self, listener: FeedListener) -> None:
        """As `Feed.start`; to be called once. Returns immediately: the thread joins the group."""
        if self._started:
            raise RuntimeError(
                f"the feed of group {self.config.group} was started before; open a new one"
            )
        self._started = True
        self.attach(listener)
        self.shared.topic_ids.watch(self.config.topics)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Return the number of records that this process has read and not done."""
        return self.flow.records

    async def stop(self, *, leave: bool = False) -> None:
        """As `Feed.stop`: drain, commit, close, within the drain deadline plus 10 s.

        A dynamic member leaves its group. A static member stays until its session ends, so that a
        restart moves no partition, unless `leave`.
        """
        if not self._started:
            return
        if not self.channel.stopping:
            self.channel.stop(leave=leave)
        deadline = self.config.drain_seconds + _CLOSE_SECONDS
        try:
            async with asyncio.timeout(deadline):
                await self._ended.wait()
        except TimeoutError:
            self.channel.abandon()
            detail = (
                f"the consumer did not close within {deadline:g} s and was abandoned; its"
                " partitions move when its session ends"
            )
            self._alarm(
                FeedAlarm(kind=AlarmKind.UNAVAILABLE, group=self.config.group, detail=detail)
            )
        self._leave_process()

    def abandon(self) -> None:
        """Stop as in a crash: nothing is drained or committed, and the listener is not called
        again.
        """
        self.channel.abandon()
        if self._started:
            self._leave_process()
            self._ended.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end of the consumer's thread; return False if the thread still runs. Blocks,
        so never call it on the loop.
        """
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _leave_process(self) -> None:
        self.close()
        self.shared.byte_budget.unregister(self.flow)
        if not self._released:
            self._released = True
            self.shared.topic_ids.unwatch(self.config.topics)
