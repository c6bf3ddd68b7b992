"""KafkaChannel: its events are in a topic of Kafka."""

from headrace.resources import kafka_channel as rules
from headrace.resources.kinds import KAFKA_CHANNEL
from headrace_controller.reconcile.backing_channels import BackingChannel

RECONCILER = BackingChannel(
    kind=KAFKA_CHANNEL,
    rules=rules.RULES,
    conditions=rules.CONDITIONS,
    topic_config=rules.topic_config,
).reconciler()
