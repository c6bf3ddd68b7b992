"""NatsJetStreamChannel: its events are in a stream of NATS JetStream."""

from collections.abc import Mapping

from headrace.resources import nats_jetstream_channel as rules
from headrace.resources.condition_types import DURABLE
from headrace.resources.conditions import Condition, failed
from headrace.resources.kinds import NATS_JETSTREAM_CHANNEL
from headrace_controller.reconcile.backing_channels import BackingChannel
from headrace_controller.reconcile.registry import ReconcileRequest

_NOT_DURABLE = failed(
    "MemoryStorage",
    "The stream is in the memory of one NATS server (storage: Memory, replicas: 1): events that are"
    " not delivered when this server ends are lost with the stream. Retries and dead letters are in"
    " files. storage and replicas cannot change: delete this channel and create it again with"
    " storage: File, or with replicas: 3 in a cluster of three servers or more.",
)


def _remarks(request: ReconcileRequest) -> Mapping[str, Condition]:
    """That events may be lost."""
    return {DURABLE: _NOT_DURABLE} if rules.is_in_one_memory(request.resource) else {}


RECONCILER = BackingChannel(
    kind=NATS_JETSTREAM_CHANNEL,
    rules=rules.RULES,
    conditions=rules.CONDITIONS,
    topic_config=rules.topic_config,
    topic=rules.stream_name,
    remarks=_remarks,
).reconciler()
