"""An IntegrationSource with `aws.sqs`: a queue of moto's server that always has a few messages."""

import contextlib
import time

from tests.support.aws_server import ANY_KEY, REGION, Queue, aws_server

from bench.load import EVENT_BYTES
from bench.sources.figures import SourceFigures
from bench.sources.service import Service, Stored, source

BATCH = 10
"""The most that SQS takes in a request."""
WAITING_MAX = 4 * BATCH
"""Messages in the queue: moto looks at each of them for every request."""
PAUSE_SECONDS = 0.005


def measure(service: Service) -> SourceFigures:
    """With the settings for a queue that has many messages."""
    events = service.sizes.sqs_messages
    with aws_server() as aws, service.running():
        topic = service.broker("sqs")
        service.secret("aws", aws__accessKey=ANY_KEY.id, aws__secretKey=ANY_KEY.secret)
        queue = aws.queue("bench")
        sqs = {
            "arn": queue.arn,
            "region": REGION,
            "maxMessagesPerPoll": BATCH,
            "greedy": True,
            "overrideEndpoint": True,
            "uriEndpointOverride": aws.url,
        }
        service.establish(
            source(
                "IntegrationSource",
                "sources.knative.dev/v1alpha1",
                "sqs",
                aws={"sqs": sqs, "auth": {"secret": {"ref": {"name": "aws"}}}},
            )
        )
        return service.drain(
            topic,
            events,
            outside="moto's server",
            send=lambda: _feed(service, topic, queue, events),
        )


def _feed(service: Service, topic: str, queue: Queue, events: int) -> None:
    body = "x" * EVENT_BYTES
    with contextlib.closing(Stored(service.servers, topic)) as stored:
        for first in range(0, events, BATCH):
            while first + BATCH - stored.count() > WAITING_MAX:
                time.sleep(PAUSE_SECONDS)
            entries = [{"Id": str(number), "MessageBody": body} for number in range(BATCH)]
            queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries)
