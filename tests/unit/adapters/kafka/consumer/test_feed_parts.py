"""The parts of the Kafka feed that need no Kafka: room, commit rate, what errors mean, what a
message becomes.
"""

from itertools import count

import pytest
from confluent_kafka import KafkaError, Message

from headrace.adapters.kafka.consumer.alarms import consumer_alarm
from headrace.adapters.kafka.consumer.budget import QUEUE_BYTES_MAX, ByteBudget
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.flow_control import BATCH_RECORDS_MAX, FlowControl
from headrace.adapters.kafka.consumer.positions import CommitRateLimiter
from headrace.adapters.kafka.messages import to_record
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.feed import AlarmKind, FeedBounds


def test_commits_are_spread_after_a_burst() -> None:
    """A burst goes at once, then each request waits for its slot; an idle second refills no more
    than the burst.
    """
    limiter = CommitRateLimiter(per_second=100, burst=3)
    assert [limiter.reserve(10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert [round(limiter.reserve(10.0), 3) for _ in range(2)] == [0.01, 0.02]
    assert [round(limiter.reserve(20.0), 3) for _ in range(4)] == [0.0, 0.0, 0.0, 0.01]


def test_a_thousand_feeds_stay_within_the_rate() -> None:
    """However many ask at once, the reserved times are no denser than the rate."""
    limiter = CommitRateLimiter(per_second=200, burst=20)
    assert max(limiter.reserve(0.0) for _ in range(1000)) == pytest.approx((1000 - 20) / 200)


@pytest.mark.parametrize(("per_second", "burst"), [(0.0, 1), (1.0, 0)])
def test_a_commit_rate_lets_something_through(per_second: float, burst: int) -> None:
    """A rate at which nothing could be committed is refused where it is set."""
    with pytest.raises(ValueError, match="commit rate"):
        CommitRateLimiter(per_second=per_second, burst=burst)


def test_room_ends_at_the_records_bound() -> None:
    """What is handed over and not settled never passes the bound."""
    flow = FlowControl(FeedBounds(records_max=10, bytes_max=1_000_000))
    flow.add_batch(4, 400, largest=100)
    flow.batch_received()
    assert flow.free_records() == 6
    flow.add_batch(6, 600, largest=100)
    flow.batch_received()
    assert flow.free_records() == 0
    flow.release(1, 100)
    assert flow.free_records() == 1


def test_room_follows_the_size_of_records() -> None:
    """As many records as fit, judged by the last hand-over; always one when there is any room at
    all.
    """
    flow = FlowControl(FeedBounds(records_max=1000, bytes_max=10_000))
    flow.add_batch(1, 1000, largest=1000)
    flow.batch_received()
    assert flow.free_records() == 9
    flow.release(1, 1000)
    flow.add_batch(1, 9_999, largest=9_999)
    flow.batch_received()
    assert flow.free_records() == 1
    flow.add_batch(1, 1, largest=1)
    flow.batch_received()
    assert flow.free_records() == 0


def test_the_loop_gets_two_hand_overs_at_most() -> None:
    """A loop that is behind is not handed a third one, so other feeds get their turn."""
    flow = FlowControl(FeedBounds(records_max=10_000))
    flow.add_batch(1, 10, largest=10)
    flow.add_batch(1, 10, largest=10)
    assert flow.free_records() == 0
    flow.batch_received()
    assert flow.free_records() == BATCH_RECORDS_MAX


def test_the_thread_is_woken_when_a_quarter_is_free() -> None:
    """Not for every single record: that would be one wake-up each."""
    flow = FlowControl(FeedBounds(records_max=8))
    flow.add_batch(8, 80, largest=10)
    flow.batch_received()
    flow.starved = True
    flow.release(1, 10)
    assert not flow.wake.is_set()
    flow.release(1, 10)
    assert flow.wake.is_set()


@pytest.mark.parametrize(
    ("code", "kind", "fatal"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, AlarmKind.TOPIC_MISSING, False),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, AlarmKind.REFUSED, False),
        (KafkaError._ALL_BROKERS_DOWN, AlarmKind.UNAVAILABLE, False),
        (KafkaError.FENCED_INSTANCE_ID, AlarmKind.FENCED, True),
        (KafkaError._FATAL, AlarmKind.REBUILT, True),
    ],
)
def test_errors_become_alarms(code: int, kind: AlarmKind, *, fatal: bool) -> None:
    """Alarms that need an operator, temporary errors, and errors that end a
    consumer.
    """
    found = consumer_alarm(KafkaError(code))
    assert (found.kind, found.fatal) == (kind, fatal)


def test_consumer_protocol_leaves_the_session_to_the_broker() -> None:
    """Under KIP-848 the client refuses to start with its own session or assignor."""
    for protocol in GroupProtocol:
        options = KafkaOptions(bootstrap_servers="localhost:1", group_protocol=protocol)
        config = ConsumerConfig(options=options, group="g", topics=("t",))
        settings = config.client_settings(queue_bytes=65_536)
        assert ("session.timeout.ms" in settings) == (protocol is GroupProtocol.CLASSIC)
        assert ("partition.assignment.strategy" in settings) == (protocol is GroupProtocol.CLASSIC)
        assert settings["auto.offset.reset"] == "error"
        assert "group.instance.id" not in settings


def test_a_message_becomes_a_record_with_a_size() -> None:
    """Key, value and header bytes count, and each header something for itself."""
    bare = to_record(
        Message(topic="t", partition=1, offset=7, key=None, value=None, timestamp=(1, 99))
    )
    assert (
        bare.topic,
        bare.partition,
        bare.offset,
        bare.timestamp_ms,
        bare.key,
        bare.value,
        bare.headers,
    ) == (
        "t",
        1,
        7,
        99,
        None,
        None,
        (),
    )
    full = to_record(
        Message(
            topic="t",
            partition=1,
            offset=7,
            key=b"k",
            value=b"vv",
            headers=[("a", b"xyz"), ("a", None)],
            timestamp=(1, 99),
        )
    )
    assert full.headers == [("a", b"xyz"), ("a", b"")]
    assert full.size == bare.size + 1 + 2 + 3 + 200


@pytest.mark.parametrize(("records_max", "bytes_max"), [(0, 1), (1, 0)])
def test_a_feed_needs_room_for_one_record(records_max: int, bytes_max: int) -> None:
    """Bounds that would hand out nothing are refused."""
    with pytest.raises(ValueError, match="room for one record"):
        FeedBounds(records_max=records_max, bytes_max=bytes_max)


def test_a_process_holds_no_more_than_its_budget() -> None:
    """Past it a feed that holds its equal share waits, one that holds less continues; room is back
    when others are done.
    """
    budget = ByteBudget(QUEUE_BYTES_MAX, now=count(0.0, 1.0).__next__)
    bounds = FeedBounds(records_max=100, bytes_max=8 * QUEUE_BYTES_MAX)
    starved, stuck = FlowControl(bounds), FlowControl(bounds)
    for flow in (starved, stuck):
        budget.register(flow)
    stuck.add_batch(1, QUEUE_BYTES_MAX, largest=QUEUE_BYTES_MAX)
    stuck.batch_received()
    assert stuck.free_records() == 0
    starved.add_batch(1, QUEUE_BYTES_MAX // 4, largest=QUEUE_BYTES_MAX // 4)
    starved.batch_received()
    assert starved.free_records() > 0
    starved.add_batch(1, QUEUE_BYTES_MAX // 4, largest=QUEUE_BYTES_MAX // 4)
    starved.batch_received()
    assert starved.free_records() == 0
    stuck.release(1, QUEUE_BYTES_MAX)
    assert starved.free_records() > 0
    stuck.add_batch(1, QUEUE_BYTES_MAX, largest=QUEUE_BYTES_MAX)
    assert starved.free_records() == 0
    budget.unregister(stuck)
    assert starved.free_records() > 0


@pytest.mark.parametrize(("feeds", "last"), [(2, 1.002), (1_000, 1.021)])
def test_the_bytes_of_a_process_are_counted_again_after_a_moment_only(
    feeds: int, last: float
) -> None:
    """Records that are done ask for the sum each time. Within 2 ms they get the last one, with a
    thousand feeds within 22 ms: the sum takes a hundred microseconds then.
    """
    seconds = [1.0]
    budget = ByteBudget(QUEUE_BYTES_MAX, now=lambda: seconds[0])
    bounds = FeedBounds(records_max=100, bytes_max=8 * QUEUE_BYTES_MAX)
    one, other, *_ = flows = [FlowControl(bounds) for _ in range(feeds)]
    for flow in flows:
        budget.register(flow)
    for flow in (one, other):
        flow.add_batch(2, QUEUE_BYTES_MAX, largest=QUEUE_BYTES_MAX)
    assert one.over_process_budget()
    one.release(1, QUEUE_BYTES_MAX // 4)
    other.release(2, QUEUE_BYTES_MAX)
    seconds[0] = last
    assert one.over_process_budget()
    seconds[0] = last + 0.003
    assert not one.over_process_budget()


def test_a_full_queue_is_looked_at_less_often_where_there_are_many() -> None:
    """One consumer looks every 5 ms, each of a hundred every 20 ms: those looks were a third of the
    process's CPU time.
    """
    options = KafkaOptions(bootstrap_servers="127.0.0.1:9")
    looks = [
        ConsumerConfig(options=options, group="g", topics=("t",)).client_settings(
            queue_bytes=kib * 1024
        )["fetch.queue.backoff.ms"]
        for kib in (1024, 128, 64)
    ]
    assert looks == [5, 10, 20]


def test_queues_shrink_as_feeds_multiply() -> None:
    """What a hundred consumers may prefetch together stays within the budget's order of
    magnitude.
    """
    budget = ByteBudget(64 * QUEUE_BYTES_MAX)
    total = 0
    for _ in range(100):
        total += budget.queue_bytes()
        budget.register(FlowControl(FeedBounds()))
    assert total <= budget.bytes_max
