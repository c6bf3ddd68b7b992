"""NatsJetStreamChannel: its events are in a stream of NATS JetStream."""

from headrace.resources import nats_jetstream_channel as rules
from headrace.resources.kinds import NATS_JETSTREAM_CHANNEL
from headrace_controller.reconcile.backing_channels import BackingChannel

RECONCILER = BackingChannel(
    kind=NATS_JETSTREAM_CHANNEL,
    rules=rules.RULES,
    conditions=rules.CONDITIONS,
    topic_config=rules.topic_config,
    topic=rules.stream_name,
).reconciler()
