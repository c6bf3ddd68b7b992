"""InMemoryChannel: its events are in the memory of the process that delivers them."""

from collections.abc import Mapping

from headrace.resources import in_memory_channel as rules
from headrace.resources.condition_types import DATA_PLANE_AVAILABLE, DURABLE
from headrace.resources.conditions import Condition, failed, unknown
from headrace.resources.kinds import IN_MEMORY_CHANNEL
from headrace_controller.reconcile.backing_channels import BackingChannel
from headrace_controller.reconcile.registry import ReconcileRequest

_NOT_DURABLE = failed(
    "InMemory",
    "Events are kept in the memory of one process: what is not delivered when it ends is lost, and"
    " dead letters too. Metric headrace_in_memory_lost_events_total counts dead letters that were"
    " dropped because there were too many.",
)


def _remarks(request: ReconcileRequest) -> Mapping[str, Condition]:
    """What Knative's in-memory channel shows of its dispatcher, and that events may be lost."""
    available = request.conditions.get(DATA_PLANE_AVAILABLE, unknown())
    return {
        rules.SERVICE_READY: available,
        rules.ENDPOINTS_READY: available,
        rules.DISPATCHER_READY: available,
        DURABLE: _NOT_DURABLE,
    }


RECONCILER = BackingChannel(
    kind=IN_MEMORY_CHANNEL,
    rules=rules.RULES,
    conditions=rules.CONDITIONS,
    topic_config=rules.topic_config,
    remarks=_remarks,
).reconciler()
