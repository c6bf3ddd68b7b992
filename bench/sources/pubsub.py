"""CloudPubSubSources: messages that are published while they run, at the fake server of Google's Go
client (pstest).

That server sends one message at a time, and about a hundred a second to each subscription. So there
are several sources, and a message costs what a response of Pub/Sub with many of them costs.
"""

from dataclasses import replace

from tests.support.pubsub_server import PROJECT, PubSubServer, pubsub_server_in

from bench.load import EVENT_BYTES
from bench.sources.figures import SourceFigures
from bench.sources.service import Service, source_to

BATCH = 100
TOPIC = "bench"


def measure(service: Service) -> SourceFigures:
    """The data of an event is larger than the message: it has it in base64."""
    messages, count = service.sizes.pubsub_messages, service.sizes.pubsub_sources
    with pubsub_server_in() as server, service.running(server.env):
        topic = service.broker("pubsub")
        server.create_topic(TOPIC)
        service.establish(
            *(
                source_to(
                    "pubsub",
                    "CloudPubSubSource",
                    "events.cloud.google.com/v1",
                    f"pubsub-{number}",
                    project=PROJECT,
                    topic=TOPIC,
                )
                for number in range(count)
            )
        )
        found = service.drain(
            topic,
            messages * count,
            outside="pstest",
            send=lambda: _publish(server, messages),
        )
        return replace(found, note=f"{count} sources, one message in a response")


def _publish(server: PubSubServer, messages: int) -> None:
    data = b"x" * EVENT_BYTES
    for first in range(0, messages, BATCH):
        server.publish(TOPIC, *[data] * min(BATCH, messages - first))
