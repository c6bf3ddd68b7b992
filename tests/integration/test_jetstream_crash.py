"""JetStream under faults: a server that is killed or stopped under load, a reader that dies,
readers that share, and an owner that is replaced.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.consumers import stream_state
from headrace.adapters.nats.feed import JetStreamFeed
from headrace.adapters.nats.feeds import JetStreamFeeds
from headrace.adapters.nats.log import JetStreamLog
from headrace.domain.errors import HeadraceError, LogFull
from headrace.domain.feed import FeedBounds, FeedConfig
from headrace.domain.record import Partition, Record
from headrace.resources.control_ports import GroupState, TopicSpec
from tests.contract.feeds import RecordingListener
from tests.support.nats_server import NatsServer, new_topic
from tests.support.wait_until import wait_until_async


class Installation:
    """A topic with a group, a log, and feeds in connections of their own."""

    def __init__(self, server: NatsServer) -> None:
        self.topic, self.group = new_topic(), new_topic("group")
        self.server = server
        self.log = JetStreamLog(server.options)
        self.admin = JetStreamTopicAdmin(server.options)
        self._feeds: list[tuple[JetStreamFeed, JetStreamFeeds]] = []

    async def start(self) -> None:
        await self.log.start()
        assert {} == await self.admin.create(
            [TopicSpec(name=self.topic, partitions=1, replication=1)]
        )
        await self.admin.commit(self.group, self.topic, {0: 0})

    def append(self, values: Sequence[bytes], stored: Callable[[bytes], None]) -> None:
        """Append; `stored` is called for each value that is acknowledged."""
        for value in values:

            def on_stored(error: HeadraceError | None, value: bytes = value) -> None:
                if error is None:
                    stored(value)

            try:
                self.log.append(self.topic, Record(None, value), on_stored)
            except LogFull:
                return

    def feed(
        self, listener: RecordingListener, *, exclusive: bool = False, records_max: int = 1000
    ) -> JetStreamFeed:
        feeds = JetStreamFeeds(self.server.options)
        config = FeedConfig(
            group=self.group,
            topics=(self.topic,),
            bounds=FeedBounds(records_max=records_max),
            exclusive=exclusive,
        )
        feed = feeds.open(config, listener.alarms.append)
        listener.feed = feed
        self._feeds.append((feed, feeds))
        feed.start(listener)
        return feed

    async def crash(self, feed: JetStreamFeed) -> None:
        """End a feed's process."""
        feed.abandon()
        await next(feeds for each, feeds in self._feeds if each is feed).close()

    async def close(self) -> None:
        for feed, feeds in self._feeds:
            feed.abandon()
            await feeds.close()
        await self.log.stop(0.1)
        await self.admin.close()


async def test_a_server_killed_under_load_loses_nothing_acknowledged(
    private_nats: NatsServer,
) -> None:
    """Killed twice and stopped once while records are written and read: every acknowledged record
    is read.
    """
    installation = Installation(private_nats)
    await installation.start()
    acknowledged: set[bytes] = set()
    listener = RecordingListener(finish=True)
    installation.feed(listener)
    writing, number = True, 0

    async def write() -> None:
        nonlocal number
        while writing:
            values = [b"%d" % (number + each) for each in range(20)]
            number += 20
            installation.append(values, acknowledged.add)
            await asyncio.sleep(0.005)

    writer = asyncio.ensure_future(write())
    try:
        for end in (private_nats.kill, private_nats.kill, private_nats.stop):
            before = len(acknowledged)
            await wait_until_async(lambda: len(acknowledged) > before + 500, 30, "progress")  # noqa: B023
            await asyncio.to_thread(end)
            await asyncio.to_thread(private_nats.start)
        before = len(acknowledged)
        await wait_until_async(lambda: len(acknowledged) > before + 500, 30, "progress at the end")
        writing = False
        await writer
        await installation.log.flush(10)
        await wait_until_async(
            lambda: acknowledged <= {record.value for record in listener.records},
            40,
            "every acknowledged record",
        )
        counts = Counter(record.offset for record in listener.records)
        repeated = sum(count - 1 for count in counts.values())
        values = Counter(record.value for record in listener.records)
        stored_twice = len(counts) - len(values)
        print(f"acknowledged {len(acknowledged)}, {repeated=}, {stored_twice=}")
        assert 0 == stored_twice, "a repeated publish is stored once"
    finally:
        writing = False
        await writer
        await installation.close()


async def test_readers_share_a_topic_and_one_of_them_dies(nats_server: NatsServer) -> None:
    """Both receive records, each record is handed out once; what the dead one had not done comes
    to the other.
    """
    installation = Installation(nats_server)
    await installation.start()
    try:
        first, second = RecordingListener(), RecordingListener(finish=True)
        dying = installation.feed(first, records_max=50)
        await wait_until_async(dying.lag, 10, "the first reads")
        installation.append([b"%d" % each for each in range(50)], lambda _: None)
        await first.has(50)
        installation.feed(second, records_max=50)
        installation.append([b"%d" % each for each in range(50, 400)], lambda _: None)
        await second.has(350)
        assert 400 == len({record.offset for record in first.records + second.records})
        assert {installation.group: GroupState.LIVE} == await installation.admin.groups(
            [installation.group]
        )
        await installation.crash(dying)
        await second.has(400, 30)
        assert list(range(400)) == sorted(record.offset for record in second.records)
    finally:
        await installation.close()


async def test_an_owner_that_dies_is_replaced_and_the_order_holds(nats_server: NatsServer) -> None:
    """The next owner begins with the oldest record that is not done, in the topic's order; before
    the lease ends, it receives nothing.
    """
    installation = Installation(nats_server)
    await installation.start()
    try:
        installation.append([b"%d" % each for each in range(100)], lambda _: None)
        first, second = RecordingListener(), RecordingListener(finish=True)
        dying = installation.feed(first, exclusive=True)
        await first.has(100)
        standby = installation.feed(second, exclusive=True)
        first.finish([first.records[each] for each in (*range(10), 12)])
        await _stored(installation, 10)
        assert not standby.lag()
        await installation.crash(dying)
        installation.append([b"%d" % each for each in range(100, 150)], lambda _: None)
        await second.has(139, 30)
        assert [10, 11, *range(13, 150)] == second.offsets()
    finally:
        await installation.close()


async def test_an_owner_cut_off_from_the_server_stops_before_another_can_begin(
    private_nats: NatsServer,
) -> None:
    """It is unconfirmed first, then loses the partition, within the time of the lease."""
    installation = Installation(private_nats)
    await installation.start()
    try:
        listener = RecordingListener()
        feed = installation.feed(listener, exclusive=True)
        installation.append([b"1"], lambda _: None)
        await listener.has(1)
        # A pause ends with the loss: the listener forgets what it has paused.
        feed.pause(Partition(installation.topic, 0))
        private_nats.pause()
        await wait_until_async(lambda: listener.unconfirmed_calls == [True], 5, "unconfirmed")
        assert not listener.lost
        await wait_until_async(lambda: listener.lost, 4, "the loss")
        private_nats.cont()
        await listener.has(2, 20)
        assert [0, 0] == listener.offsets()
    finally:
        private_nats.cont()
        await installation.close()


async def _stored(installation: Installation, offset: int) -> None:
    group, topic = installation.group, installation.topic
    async with asyncio.timeout(10):
        while (await installation.admin.committed({group: topic}))[group].get(0) != offset:
            await asyncio.sleep(0.02)


async def test_the_deletion_of_finished_records_leaves_those_that_members_hold(
    private_nats: NatsServer,
) -> None:
    """A member that holds records crashes after finished ones were deleted: another member receives
    what it held. nats-server 2.9 forgets every delivered record of a stream's consumers at a purge.
    """
    installation = Installation(private_nats)
    await installation.start()
    holder, successor = RecordingListener(), RecordingListener(finish=True)
    held = installation.feed(holder)
    try:
        values = [b"%d" % number for number in range(8)]
        installation.append(values, lambda _: None)
        await holder.has(len(values), 10)
        for record in holder.records[:3]:
            held.done(record)
        committed = 0

        async def finished() -> int:
            nonlocal committed
            found = await installation.admin.committed({installation.group: installation.topic})
            committed = found.get(installation.group, {}).get(0, 0)
            return committed

        async with asyncio.timeout(10):
            while await finished() < 3:
                await asyncio.sleep(0.05)
        await installation.admin.delete_records(installation.topic, {0: committed})
        stream = await stream_state(installation.admin._connection, installation.topic)
        assert (stream.first_offset, stream.end_offset) == (3, len(values))
        await installation.crash(held)
        installation.feed(successor)
        await successor.has(len(values) - 3, 30)
        assert sorted(each.value or b"" for each in successor.records) == values[3:]
    finally:
        await installation.close()
