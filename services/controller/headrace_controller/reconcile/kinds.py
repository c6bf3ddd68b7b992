"""The kinds that this controller reconciles. A new kind is a CRD file, a module with a
`KindReconciler`, and its name here.
"""

from headrace.resources.kinds import (
    CHANNEL,
    IN_MEMORY_CHANNEL,
    KAFKA_CHANNEL,
    NATS_JETSTREAM_CHANNEL,
    PARALLEL,
    SEQUENCE,
    SUBSCRIPTION,
)
from headrace_controller.reconcile import (
    brokers,
    channels,
    event_types,
    in_memory_channels,
    kafka_channels,
    nats_jetstream_channels,
    parallels,
    sequences,
    subscriptions,
    triggers,
)
from headrace_controller.reconcile.registry import Reconcilers

RECONCILERS = Reconcilers(
    brokers.RECONCILER,
    triggers.RECONCILER,
    channels.RECONCILER,
    kafka_channels.RECONCILER,
    in_memory_channels.RECONCILER,
    nats_jetstream_channels.RECONCILER,
    subscriptions.RECONCILER,
    sequences.RECONCILER,
    parallels.RECONCILER,
    event_types.RECONCILER,
)
CHANNEL_KINDS = (
    CHANNEL,
    KAFKA_CHANNEL,
    IN_MEMORY_CHANNEL,
    NATS_JETSTREAM_CHANNEL,
    SUBSCRIPTION,
    SEQUENCE,
    PARALLEL,
)
"""The kinds that a controller leaves alone where Knative's channel controllers run."""
