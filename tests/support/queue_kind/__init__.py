"""A kind that the product does not have: a Queue is addressable, and owns a QueueReader, which
subscribes its subscriber. This module and `crds.yaml` are all there is of it.
"""

from collections.abc import Iterator

from headrace.resources import delivery_spec
from headrace.resources.broker_config import read_config
from headrace.resources.condition_types import (
    ADDRESSABLE,
    CONFIG_MAP_UPDATED,
    DATA_PLANE_AVAILABLE,
    DEAD_LETTER_SINK_RESOLVED,
    PROBE_SUCCEEDED,
    SUBSCRIBER_RESOLVED,
    SUBSCRIPTION_READY,
    TOPIC_READY,
)
from headrace.resources.conditions import ConditionSet, happy
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace_controller.reconcile.addressable import AddressableSpec, reconcile_addressable
from headrace_controller.reconcile.backend import Progress
from headrace_controller.reconcile.finalization import finalize
from headrace_controller.reconcile.objects import ensure_object, readiness_of, remove_object
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.references import named, ref_of
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    condition_of_problem,
    resolve_dead_letter_sink,
    resolve_subscriber,
    set_status,
)
from headrace_controller.reconcile.subscription_steps import (
    SubscriptionSpec,
    reconcile_subscription,
)

QUEUE = ResourceKind(
    group="test.headrace.dev", version="v1", kind="Queue", plural="queues", singular="queue"
)
READER = ResourceKind(
    group="test.headrace.dev",
    version="v1",
    kind="QueueReader",
    plural="queuereaders",
    singular="queuereader",
)
READER_READY = "ReaderReady"
QUEUE_CONDITIONS = ConditionSet(
    TOPIC_READY,
    CONFIG_MAP_UPDATED,
    DATA_PLANE_AVAILABLE,
    PROBE_SUCCEEDED,
    ADDRESSABLE,
    READER_READY,
)
READER_CONDITIONS = ConditionSet(SUBSCRIBER_RESOLVED, SUBSCRIPTION_READY, DEAD_LETTER_SINK_RESOLVED)


def decide_queue(request: ReconcileRequest) -> None:
    """A topic, an address, and a reader if there is a subscriber."""
    queue, reader = request.resource, reader_of(request.resource)
    config = read_config({}, brokers=request.observed.cluster.brokers)
    name, path = f"queue-{queue.namespace}-{queue.name}", f"/queues/{queue.namespace}/{queue.name}"
    reconcile_addressable(request, AddressableSpec(topic=name, config=config, path=path))
    if queue.spec.get("subscriber"):
        problem = ensure_object(request, reader)
        request.conditions[READER_READY] = (
            condition_of_problem(problem) if problem else readiness_of(request, reader)
        )
    else:
        remove_object(request, reader)
        request.conditions[READER_READY] = happy("NoSubscriber")
    set_status(request, QUEUE_CONDITIONS)


def finalize_queue(request: ReconcileRequest) -> None:
    """The reader first, which stops reading; then what the queue has in Kafka."""
    if remove_object(request, reader_of(request.resource)) is Progress.DONE:
        finalize(request)


def reader_of(queue: Resource) -> Resource:
    """The child."""
    spec = {"queue": queue.name, "subscriber": queue.spec.get("subscriber")}
    metadata = {"name": f"{queue.name}-reader", "namespace": queue.namespace}
    return Resource(READER, {"metadata": metadata, "spec": spec})


def decide_reader(request: ReconcileRequest) -> None:
    """A subscription to its queue."""
    reader, queue = request.resource, queue_of(request.observed, request.resource)
    reconcile_subscription(
        request,
        SubscriptionSpec(
            group=f"queue-reader-{reader.namespace}-{reader.name}",
            addressable_kind=QUEUE.kind,
            addressable=None if queue is None or queue.deleting else queue,
            subscriber=resolve_subscriber(
                request, reader.spec.get("subscriber") or {}, "spec.subscriber"
            ),
            delivery=delivery_spec.DeliverySpec(),
            dead_letter_sink=resolve_dead_letter_sink(request, None, ""),
        ),
    )
    set_status(request, READER_CONDITIONS)


def queue_of(observed: ObservedState, reader: Resource) -> Resource | None:
    """The queue that a reader reads."""
    return observed.get(QUEUE, reader.namespace, str(reader.spec.get("queue")))


def _references(reader: Resource) -> Iterator[Reference]:
    return named(reader, ref_of(reader.spec.get("subscriber")))


QUEUES = KindReconciler(kind=QUEUE, decide=decide_queue, finalize=finalize_queue, owns=(READER,))
READERS = KindReconciler(
    kind=READER,
    references=_references,
    addressable=queue_of,
    decide=decide_reader,
    finalize=finalize,
)
