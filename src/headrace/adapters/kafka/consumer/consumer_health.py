"""The health of a consumer, which its thread checks with queries."""

import time

from confluent_kafka import Consumer

from headrace.adapters.kafka.client_health import ClientHealth, ReferenceClient
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm, ConsumerFailed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.domain.feed import AlarmKind

_TIMEOUT_SECONDS = 2.0


class ConsumerHealth(ClientHealth):
    """As `ClientHealth`. Used only in the thread of the consumer."""

    __slots__ = ("_check_at", "_interval_seconds", "_reference", "_topic")

    def __init__(self, config: ConsumerConfig, reference: ReferenceClient) -> None:
        super().__init__()
        self._topic = config.topics[0]
        self._reference = reference
        self._interval_seconds = config.options.health_check_seconds
        self._check_at = time.monotonic() + self._interval_seconds

    def check_when_due(self, consumer: Consumer) -> None:
        """Check whether a broker still answers this client, its commits included, if the last check
        was a while ago. In an outage the query blocks the thread, which then has nothing else to
        do. Raises `ConsumerFailed` when the client must be replaced.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        self.check(
            lambda: consumer.list_topics(self._topic, timeout=_TIMEOUT_SECONDS),
            now,
            self._reference,
        )
        self._check_at = time.monotonic() + self._interval_seconds
        if self.failure is not None:
            raise ConsumerFailed(ConsumerAlarm(AlarmKind.REBUILT, self.failure, fatal=True))
