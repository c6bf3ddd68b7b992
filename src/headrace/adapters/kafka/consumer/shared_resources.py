"""Resources that all consumers of one process share."""

from dataclasses import dataclass

from headrace.adapters.kafka.consumer.budget import ByteBudget
from headrace.adapters.kafka.consumer.callback_queue import CallbackQueues
from headrace.adapters.kafka.consumer.positions import CommitRateLimiter
from headrace.adapters.kafka.consumer.topic_ids import TOPIC_ID_QUERY_SECONDS, TopicIds
from headrace.adapters.kafka.options import KafkaOptions

PROCESS_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SharedConsumerResources:
    """The commit rate and the byte budget of one process, its callback queues from consumer threads
    to the event loop, and the ids of its topics.
    """

    commit_rate_limiter: CommitRateLimiter
    byte_budget: ByteBudget
    callback_queues: CallbackQueues
    topic_ids: TopicIds

    @classmethod
    def create(
        cls,
        options: KafkaOptions,
        *,
        bytes_max: int = PROCESS_BYTES_MAX,
        topic_ids_seconds: float = TOPIC_ID_QUERY_SECONDS,
    ) -> "SharedConsumerResources":
        """`bytes_max` bounds what all feeds hold together. `topic_ids_seconds` is how often the ids
        of topics are queried.
        """
        return cls(
            CommitRateLimiter(),
            ByteBudget(bytes_max),
            CallbackQueues(),
            TopicIds(options, every_seconds=topic_ids_seconds),
        )

    def close(self) -> None:
        """Stop the thread that queries topic ids. Idempotent."""
        self.topic_ids.close()
