"""The adapter `aws-sqs`: the messages of an SQS queue.

A message is deleted after the sink has taken its event, and hidden from other readers until then.
What is not delivered is left to the queue, which delivers it again after its visibility timeout and
moves it to its dead letter queue if it has one. All processes of the service read the same queue.
"""

from typing import ClassVar

from pydantic import Field

from headrace_sources.adapters.aws.client import AwsAuth, open_client, read_credentials
from headrace_sources.adapters.aws.messages import EventForm
from headrace_sources.adapters.aws.queue import BATCH_MAX, WAIT_SECONDS_MAX, SqsQueue
from headrace_sources.adapters.aws.queue_address import address_of
from headrace_sources.adapters.aws.sqs_reader import Polling, SqsReader
from headrace_sources.source import DEPLOYED, Emit, SourceConfig, SourceContext


class AwsSqsConfig(SourceConfig):
    """The fields of `spec.aws.sqs` of an IntegrationSource, and the form of the events."""

    type: str
    source: str
    subject: str | None = None
    whole_message: bool = False
    """Whether the data is the message as the API shows it, instead of its body."""
    arn: str = ""
    """ARN or name of the queue."""
    queue_url: str = ""
    region: str = ""
    endpoint: str = ""
    """URL of the API; empty for AWS's own."""
    auth: AwsAuth = AwsAuth()
    auto_create_queue: bool = False
    delete_after_read: bool = True
    greedy: bool = False
    delay: int = Field(default=500, ge=0)
    """Milliseconds between two polls; with `greedy`, after an empty one only."""
    max_messages_per_poll: int = Field(default=1, ge=1, le=BATCH_MAX)
    wait_time_seconds: int = Field(default=WAIT_SECONDS_MAX, ge=0, le=WAIT_SECONDS_MAX)
    visibility_timeout: int | None = Field(default=None, ge=0, le=43_200)
    """Seconds; None or 0 for the queue's own."""


class AwsSqsSource:
    """Reads one queue."""

    Config: ClassVar[type[SourceConfig]] = AwsSqsConfig

    def __init__(self, config: AwsSqsConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    async def run(self, emit: Emit) -> None:
        """See `Source`."""
        config, context = self._config, self._context
        context.report(DEPLOYED, None, "Connecting", "the queue is being opened")
        address = address_of(
            arn=config.arn, url=config.queue_url, region=config.region, endpoint=config.endpoint
        )
        async with open_client(
            "sqs",
            region=address.region,
            endpoint=address.endpoint,
            credentials=await read_credentials(config.auth, context),
            address_denied=context.address_denied,
            wait_seconds=config.wait_time_seconds,
        ) as client:
            queue = SqsQueue(client, address)
            await queue.open(
                create=config.auto_create_queue, visibility_seconds=config.visibility_timeout
            )
            context.report(DEPLOYED, True)
            await SqsReader(queue, context, emit, self._form, self._polling).run()

    @property
    def _form(self) -> EventForm:
        config = self._config
        return EventForm(config.type, config.source, config.subject, config.whole_message)

    @property
    def _polling(self) -> Polling:
        config = self._config
        return Polling(
            messages_max=config.max_messages_per_poll,
            wait_seconds=config.wait_time_seconds,
            pause_seconds=config.delay / 1000,
            greedy=config.greedy,
            delete=config.delete_after_read,
        )
