"""A KafkaSource: a topic that is full when it starts, of records that are no CloudEvents."""

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.load import EVENT_BYTES, KEYS
from bench.sources.figures import SourceFigures
from bench.sources.service import Service, source

PARTITIONS = 10
TOPIC = "outside"


def measure(service: Service) -> SourceFigures:
    """The outside Kafka is that of the installation."""
    events = service.sizes.records
    _fill(service.servers, events)
    with service.running():
        topic = service.broker("kafka")
        service.establish(
            source(
                "KafkaSource",
                "sources.knative.dev/v1beta1",
                "kafka",
                bootstrapServers=[service.servers],
                topics=[TOPIC],
                consumerGroup="bench",
                initialOffset="earliest",
            )
        )
        return service.drain(topic, events, outside="Kafka")


def _fill(servers: str, events: int) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)]).values():
        future.result(20.0)
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.kbytes": 1 << 20}
    )
    data = b"x" * EVENT_BYTES
    for number in range(events):
        producer.produce(TOPIC, data, key=f"k{number % KEYS}")
        if not number % 10_000:
            producer.flush(60.0)
    if producer.flush(120.0):
        raise RuntimeError("the outside topic was not filled")
