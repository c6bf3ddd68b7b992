"""The adapter of CloudPubSubSource and GcpPubSubSource: messages of a topic of Google Pub/Sub.

All processes of the service share one subscription, which the source creates, keeps as its
configuration says, and deletes in the end.
"""

from datetime import timedelta
from functools import partial
from typing import ClassVar, Final

import structlog
from google.api_core import exceptions
from google.pubsub_v1 import types
from pydantic import Field

from headrace_sources.adapters.gcp_pubsub_client import (
    CALL_SECONDS,
    Connection,
    Errors,
    connect,
    fault_of,
    unavailable,
)
from headrace_sources.adapters.gcp_pubsub_events import EventFormat, PubSubNames, event_of
from headrace_sources.adapters.gcp_pubsub_stream import SubscriptionReader
from headrace_sources.source import (
    Emit,
    SecretKeyRef,
    SourceConfig,
    SourceContext,
    SourceFault,
)

logger = structlog.get_logger(__name__)

_DELETED_TOPIC: Final = "_deleted-topic_"
_MUTABLE: Final = (
    "ack_deadline_seconds",
    "retain_acked_messages",
    "message_retention_duration",
)


class GcpPubSubConfig(SourceConfig):
    """See docs/sources/gcp-pubsub.md."""

    topic: str
    project: str = ""
    """Default: the project of the credentials."""
    subscription: str
    """Id of the subscription."""
    secret: SecretKeyRef | None = None
    """A key of a service account. Default: the credentials of the environment."""
    ack_deadline_seconds: int = Field(default=30, ge=10, le=600)
    retain_acked_messages: bool = False
    retention_seconds: int = Field(default=604_800, ge=600, le=604_800)
    event_format: EventFormat = EventFormat.CLOUD_PUB_SUB
    condition: str = "PullSubscriptionReady"
    """Shows that the subscription exists and is read."""


class GcpPubSubSource:
    """See the module."""

    Config: ClassVar[type[SourceConfig]] = GcpPubSubConfig

    def __init__(self, config: GcpPubSubConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context

    async def run(self, emit: Emit) -> None:
        """Create the subscription if it does not exist, and read it."""
        config = self._config
        async with connect(self._context, config.secret) as connection:
            names = self._names(connection)
            await self._subscribe(connection, names)
            self._context.publish(
                projectId=names.project,
                topicId=names.topic_id,
                subscriptionId=names.subscription_id,
            )
            await SubscriptionReader(
                connection.client,
                names.subscription,
                event_of=partial(event_of, names=names, form=config.event_format),
                emit=emit,
                clock=self._context.clock,
                deadline_seconds=config.ack_deadline_seconds,
                condition=self._config.condition,
            ).run()

    async def finalize(self) -> None:
        """Delete the subscription. One that was never created must not keep the resource, for
        example because its credentials have always been refused.
        """
        try:
            await self._delete()
        except SourceFault as fault:
            if self._context.published.get("subscriptionId"):
                raise
            logger.info(
                "pubsub_subscription_not_deleted",
                namespace=self._context.namespace,
                name=self._context.name,
                error=str(fault),
            )

    async def _delete(self) -> None:
        async with connect(self._context, self._config.secret) as connection:
            names = self._names(connection)
            try:
                await connection.client.delete_subscription(
                    subscription=names.subscription, retry=None, timeout=CALL_SECONDS
                )
            except exceptions.NotFound:
                return
            except Errors as error:
                raise self._fault(error, f"deleting {names.subscription}") from None

    def _names(self, connection: Connection) -> PubSubNames:
        published = self._context.published.get("projectId")
        project = self._config.project or published or connection.project
        if not project:
            raise SourceFault(
                "ProjectUnknown",
                "neither the spec nor the credentials name a project; set spec.project",
                condition=self._config.condition,
            )
        return PubSubNames(str(project), self._config.topic, self._config.subscription)

    async def _subscribe(self, connection: Connection, names: PubSubNames) -> None:
        """Create the subscription, or change the one that exists. Processes may do that at the same
        time.
        """
        wanted = self._wanted(names)
        what = f"creating {names.subscription}"
        try:
            try:
                await connection.client.create_subscription(
                    wanted, retry=None, timeout=CALL_SECONDS
                )
            except exceptions.AlreadyExists:
                what = f"reading the settings of {names.subscription}"
                await self._adjust(connection, wanted)
                return
        except Errors as error:
            raise self._fault(error, what) from None
        self._context.report(self._config.condition, True)

    def _wanted(self, names: PubSubNames) -> types.Subscription:
        config = self._config
        return types.Subscription(
            name=names.subscription,
            topic=names.topic,
            ack_deadline_seconds=config.ack_deadline_seconds,
            retain_acked_messages=config.retain_acked_messages,
            message_retention_duration=timedelta(seconds=config.retention_seconds),
            # Without it the service deletes a subscription that nobody has read for 31 days.
            expiration_policy=types.ExpirationPolicy(),
            enable_message_ordering=True,
        )

    async def _adjust(self, connection: Connection, wanted: types.Subscription) -> None:
        client = connection.client
        present = await client.get_subscription(
            subscription=wanted.name, retry=None, timeout=CALL_SECONDS
        )
        if present.topic == _DELETED_TOPIC:
            # What it still has is read all the same.
            self._context.report(
                self._config.condition,
                False,
                "TopicDeleted",
                f"{wanted.topic} was deleted, and a topic created later is another one; delete this"
                " source and create it again",
            )
            return
        if present.topic != wanted.topic:
            raise SourceFault(
                "SubscriptionTaken",
                f"{wanted.name} exists and belongs to {present.topic}; delete it",
                condition=self._config.condition,
            )
        changed = [name for name in _MUTABLE if getattr(present, name) != getattr(wanted, name)]
        if changed:
            await client.update_subscription(
                subscription=wanted,
                update_mask={"paths": changed},
                retry=None,
                timeout=CALL_SECONDS,
            )
        self._context.report(self._config.condition, True)

    def _fault(self, error: Exception, what: str) -> SourceFault:
        condition = self._config.condition
        return fault_of(error, what, condition) or unavailable(error, what, condition)
