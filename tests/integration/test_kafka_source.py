"""The adapter `kafka` and a real Kafka: where a group begins, rebalances, outages, and what is said
about a Kafka that cannot be read.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.kafka import KafkaConfig, KafkaSource
from headrace_sources.source import SourceFault
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.secured_kafka import SecuredKafka, secured_kafka
from tests.support.sources import RecordingContext, RecordingEmit, running
from tests.support.wait_until import wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
SECONDS = 20.0


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker with secured listeners for the tests that need one."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as started:
        yield started


class Outside:
    """A topic of an outside Kafka, and the configuration of a source that reads it."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        self.address, self.topic, self.partitions = address, topic, partitions
        self.group = f"group-{uuid.uuid4().hex[:8]}"
        self._producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "log_level": 0})

    def config(self, **more: object) -> KafkaConfig:
        """The configuration, with other fields by their names in the spec."""
        return KafkaConfig.model_validate(
            {
                "bootstrapServers": [self.address],
                "topics": [self.topic],
                "consumerGroup": self.group,
                "initialOffset": "earliest",
                "source": "/apis/v1/namespaces/default/kafkasources/source",
                **more,
            }
        )

    def produce(self, values: Sequence[int], keys: int = 5) -> None:
        """Write these numbers, with so many keys; 0 is none."""
        for each in values:
            key = str(each % keys) if keys else None
            self._producer.produce(self.topic, str(each), key)
        assert self._producer.flush(SECONDS) == 0

    def shares(self) -> list[int]:
        """How many partitions each member of the group has, in order."""
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        asked = admin.describe_consumer_groups([self.group], request_timeout=SECONDS)
        group = asked[self.group].result(SECONDS)
        return sorted(len(each.assignment.topic_partitions) for each in group.members)

    def committed(self) -> list[int]:
        """The offsets of the group; a negative one is none."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": self.group})
        try:
            asked = [TopicPartition(self.topic, each) for each in range(self.partitions)]
            return [each.offset for each in consumer.committed(asked, timeout=SECONDS)]
        finally:
            consumer.close()


@pytest.fixture
def outside(kafka: KafkaUnderTest) -> Callable[[int], Outside]:
    """Makes topics."""

    def make(partitions: int = 4) -> Outside:
        topic = kafka.create_topic("outside", partitions=partitions)
        return Outside(kafka.bootstrap_servers, topic, partitions)

    return make


@contextlib.asynccontextmanager
async def reading(
    config: KafkaConfig, emit: RecordingEmit, context: RecordingContext | None = None
) -> AsyncIterator[RecordingContext]:
    """A source that has joined its group."""
    context = context or RecordingContext(clock=SystemClock())
    async with running(KafkaSource(config, context), emit) as task:
        await wait_until_async(
            lambda: "Scheduled" in context.conditions or task.done(), SECONDS, "it reads"
        )
        yield context


async def fault_of(config: KafkaConfig, context: RecordingContext | None = None) -> SourceFault:
    """What a source says that cannot run, within seconds."""
    source = KafkaSource(config, context or RecordingContext(clock=SystemClock()))
    with pytest.raises(SourceFault) as raised:
        await asyncio.wait_for(source.run(RecordingEmit()), 12)
    return raised.value


def numbers(emit: RecordingEmit) -> list[int]:
    """The data of the events that the sink has taken."""
    return [int(each.data or b"") for each in emit.events]


async def test_records_are_sent_in_the_order_of_their_keys(
    outside: Callable[[int], Outside],
) -> None:
    """All of them, once, and the group has committed them afterwards."""
    given, emit = outside(4), RecordingEmit()
    given.produce(range(500))
    async with reading(given.config(), emit) as context:
        await emit.wait_for(500, SECONDS)
        assert context.conditions["ConnectionEstablished"][0] is True
        assert context.conditions["InitialOffsetsCommitted"][0] is True
    assert sorted(numbers(emit)) == list(range(500))
    for key in range(5):
        of_key = [each for each in numbers(emit) if each % 5 == key]
        assert of_key == sorted(of_key)
    assert sum(given.committed()) == 500


async def test_latest_begins_where_the_topic_ends(outside: Callable[[int], Outside]) -> None:
    """That is committed before anything is read: what comes while no process runs is not lost."""
    given, emit = outside(2), RecordingEmit()
    given.produce(range(10))
    config = given.config(initialOffset="latest")
    async with reading(config, emit):
        assert sum(given.committed()) == 10
    given.produce(range(10, 20))
    async with reading(config, emit):
        await emit.wait_for(10, SECONDS)
    assert sorted(numbers(emit)) == list(range(10, 20))


async def test_two_processes_that_start_together_lose_nothing(
    outside: Callable[[int], Outside],
) -> None:
    """Both want to commit where the group begins; they share the partitions."""
    given, emits = outside(4), (RecordingEmit(), RecordingEmit())
    config = given.config(consumers=2)
    given.produce(range(200), keys=0)
    async with reading(config, emits[0]), reading(config, emits[1]):
        await wait_until_async(
            lambda: len(emits[0].events) + len(emits[1].events) >= 200, SECONDS, "all arrive"
        )
    assert set(numbers(emits[0]) + numbers(emits[1])) == set(range(200))


@pytest.mark.parametrize(("consumers", "members"), [(3, [1, 1, 2]), (9, [1, 1, 1, 1])])
async def test_consumers_share_the_partitions(
    outside: Callable[[int], Outside], consumers: int, members: list[int]
) -> None:
    """Each is a member of the group with partitions of its own, and none has nothing to do."""
    given, emit = outside(4), RecordingEmit()
    async with reading(given.config(consumers=consumers), emit):
        await wait_until_async(lambda: given.shares() == members, SECONDS, "all have partitions")
        given.produce(range(400))
        await emit.wait_for(400, SECONDS)
        assert given.shares() == members
    assert sorted(numbers(emit)) == list(range(400))
    for key in range(5):
        of_key = [each for each in numbers(emit) if each % 5 == key]
        assert of_key == sorted(of_key)
    assert sum(given.committed()) == 400
    assert given.shares() == []


async def test_several_consumers_lose_nothing_when_processes_come_and_go(
    outside: Callable[[int], Outside],
) -> None:
    """Two of one process, while another with two joins and leaves three times. The first time that
    a record is sent, those of its key before it were sent.
    """
    given, stays, comes = outside(4), RecordingEmit(), RecordingEmit()
    config = given.config(consumers=2)
    written = 0

    def write() -> None:
        nonlocal written
        given.produce(range(written, written + 100), keys=20)
        written += 100

    async with reading(config, stays):
        for turn in range(3):
            before = len(comes.events)
            async with reading(config, comes):
                await wait_until_async(
                    lambda: given.shares() == [1, 1, 1, 1], SECONDS, "all four have a partition"
                )
                while len(comes.events) < before + 100:
                    write()
                    await comes.wait_for(len(comes.events) + 1, SECONDS)
            write()
            await wait_until_async(
                lambda: given.shares() == [2, 2], SECONDS, f"turn {turn}: two have all"
            )
        await wait_until_async(
            lambda: set(numbers(stays) + numbers(comes)) == set(range(written)), 40, "all arrive"
        )
    repeated = len(stays.events) + len(comes.events) - written
    print(f"{repeated} of {written} were sent twice")
    assert repeated < 100
    for emit in (stays, comes):
        first = list(dict.fromkeys(numbers(emit)))
        for key in range(20):
            of_key = [each for each in first if each % 20 == key]
            assert of_key == sorted(of_key)


async def test_a_process_that_leaves_gives_its_partitions_back(
    outside: Callable[[int], Outside],
) -> None:
    """While records are written and the sink fails now and then: none is lost."""
    given, stays, leaves = outside(4), RecordingEmit(), RecordingEmit()
    config = given.config(ordering="unordered")
    written = iter(range(100_000))
    count = 0

    def write() -> bool:
        nonlocal count
        given.produce([next(written) for _ in range(50)])
        count += 50
        return len(leaves.events) >= 100

    async with reading(config, stays):
        write()
        async with reading(config, leaves):
            leaves.refuse = stays.refuse = 3
            await wait_until_async(write, SECONDS, "both have partitions")
        write()
        await wait_until_async(
            lambda: set(numbers(stays) + numbers(leaves)) == set(range(count)), 40, "all arrive"
        )
    # A few are sent twice: those that were on their way when they had to be given back.
    assert len(stays.events) + len(leaves.events) - count < 100


async def test_a_crash_before_the_commit_repeats_and_loses_nothing(
    outside: Callable[[int], Outside],
) -> None:
    """What the sink has not taken was not committed."""
    given, emit = outside(1), RecordingEmit()
    given.produce(range(50))
    emit.gate.clear()
    async with reading(given.config(ordering="unordered"), emit):
        await emit.wait_for_attempts(50, SECONDS)
    assert given.committed() == [0]
    emit.gate.set()
    async with reading(given.config(), emit):
        await emit.wait_for(50, SECONDS)
    assert numbers(emit)[-50:] == sorted(numbers(emit)[-50:])


async def test_several_topics(kafka: KafkaUnderTest, outside: Callable[[int], Outside]) -> None:
    """One that is added later begins at its own end or beginning."""
    given, emit = outside(1), RecordingEmit()
    given.produce(range(3))
    async with reading(given.config(), emit):
        await emit.wait_for(3, SECONDS)
    added = Outside(kafka.bootstrap_servers, kafka.create_topic("outside", partitions=2), 2)
    added.produce(range(3, 9))
    async with reading(given.config(topics=[given.topic, added.topic]), emit):
        await emit.wait_for(9, SECONDS)
    assert sorted(numbers(emit)) == list(range(9))
    sources = {str(each.attributes["source"]).partition("#")[2] for each in emit.events}
    assert sources == {given.topic, added.topic}


async def test_a_missing_topic_and_an_unreachable_kafka_are_named(
    outside: Callable[[int], Outside],
) -> None:
    """Within seconds, with what to do."""
    given = outside(1)
    missing = await fault_of(given.config(topics=[given.topic, "no-such-topic"]))
    assert (missing.condition, missing.reason) == ("ConnectionEstablished", "TopicNotFound")
    assert "no-such-topic does not exist" in str(missing)
    silent = await fault_of(given.config(bootstrapServers=["127.0.0.1:1"]))
    assert (silent.condition, silent.reason) == ("ConnectionEstablished", "Unreachable")
    assert "127.0.0.1:1" in str(silent)
    unresolved = await fault_of(given.config(bootstrapServers=["no-such-host.invalid:9092"]))
    assert unresolved.reason == "Unreachable"
    wrong = await fault_of(given.config(bootstrapServers=["kafka"]))
    assert wrong.reason == "InvalidBootstrapServer"


async def test_an_address_that_is_denied(outside: Callable[[int], Outside]) -> None:
    """The egress policy of the service applies to the bootstrap servers."""
    context = RecordingContext(clock=SystemClock())
    context.address_denied = lambda address, port: f"{address} is not allowed"
    fault = await fault_of(outside(1).config(), context)
    assert fault.reason == "AddressDenied"


def _secrets(secured: SecuredKafka, mechanism: str) -> dict[tuple[str, str], bytes]:
    return {
        ("kafka", "user"): b"headrace",
        ("kafka", "password"): secured.password.read_bytes(),
        ("kafka", "type"): mechanism.encode(),
        ("kafka", "ca.crt"): secured.authority.file.read_bytes(),
        ("kafka", "user.crt"): secured.client.certificate.read_bytes(),
        ("kafka", "user.key"): secured.client.key.read_bytes(),
    }


def _key(key: str) -> dict[str, str]:
    return {"name": "kafka", "key": key}


SASL = {"user": _key("user"), "password": _key("password"), "type": _key("type")}
CA = {"caCert": _key("ca.crt")}
CLIENT = {**CA, "cert": _key("user.crt"), "key": _key("user.key")}


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN", ""])
async def test_a_secured_kafka(secured: SecuredKafka, mechanism: str) -> None:
    """By password over TLS, or by client certificate. All values are from Secrets."""
    topic = KafkaUnderTest(secured.apache.bootstrap_servers, Kind.APACHE).create_topic("secured")
    given, emit = Outside(secured.apache.bootstrap_servers, topic, 1), RecordingEmit()
    given.produce(range(3))
    address = secured.sasl_address if mechanism else secured.tls_address
    net = {"sasl": SASL, "tls": CA} if mechanism else {"tls": CLIENT}
    context = RecordingContext(clock=SystemClock(), secrets=_secrets(secured, mechanism))
    async with reading(given.config(bootstrapServers=[address], **net), emit, context):
        await emit.wait_for(3, SECONDS)


async def test_refused_credentials_are_named(secured: SecuredKafka) -> None:
    """Within seconds, and no password is in the text."""
    given = Outside(secured.apache.bootstrap_servers, "orders", 1)
    by_password = given.config(bootstrapServers=[secured.sasl_address], sasl=SASL, tls=CA)
    secrets = {**_secrets(secured, "PLAIN"), ("kafka", "password"): b"wrong-password"}
    fault = await fault_of(by_password, RecordingContext(clock=SystemClock(), secrets=secrets))
    assert (fault.condition, fault.reason) == ("ConnectionEstablished", "Refused")
    assert "check spec.net" in str(fault)
    assert "wrong-password" not in str(fault)
    secrets = _secrets(secured, "GSSAPI")
    fault = await fault_of(by_password, RecordingContext(clock=SystemClock(), secrets=secrets))
    assert fault.reason == "UnsupportedMechanism"
    secrets = {**_secrets(secured, "PLAIN"), ("kafka", "ca.crt"): b"no certificate"}
    fault = await fault_of(by_password, RecordingContext(clock=SystemClock(), secrets=secrets))
    assert fault.reason == "Refused"
    fault = await fault_of(by_password)
    assert fault.reason == "SecretNotFound"
    plain = given.config(bootstrapServers=[secured.tls_address])
    fault = await fault_of(plain)
    assert fault.reason == "Unreachable"
