"""The kinds that this controller reconciles. A new kind is a CRD file, a module with a
`KindReconciler`, and its name here.
"""

from headrace.resources.kinds import (
    CHANNEL,
    CLUSTER_CHANNEL_PROVISIONER,
    IN_MEMORY_CHANNEL,
    KAFKA_CHANNEL,
    LEGACY_CHANNEL,
    LEGACY_SUBSCRIPTION,
    NATS_JETSTREAM_CHANNEL,
    PARALLEL,
    SEQUENCE,
    SUBSCRIPTION,
)
from headrace_controller.reconcile import (
    api_server_sources,
    aws_sources,
    brokers,
    camel_sources,
    channels,
    cloud_pubsub_sources,
    cluster_channel_provisioners,
    container_sources,
    event_types,
    github_sources,
    in_memory_channels,
    integration_sources,
    kafka_channels,
    kafka_sinks,
    kafka_sources,
    kubernetes_event_sources,
    legacy_channels,
    legacy_subscriptions,
    nats_jetstream_channels,
    parallels,
    ping_sources,
    sequences,
    sink_bindings,
    subscriptions,
    triggers,
    webhook_sources,
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
    kafka_sinks.RECONCILER,
    cluster_channel_provisioners.RECONCILER,
    legacy_channels.RECONCILER,
    legacy_subscriptions.RECONCILER,
    cloud_pubsub_sources.RECONCILER,
    cloud_pubsub_sources.LEGACY_RECONCILER,
    ping_sources.RECONCILER,
    api_server_sources.RECONCILER,
    kubernetes_event_sources.RECONCILER,
    ping_sources.CRON_JOB_RECONCILER,
    github_sources.RECONCILER,
    github_sources.LEGACY_RECONCILER,
    webhook_sources.RECONCILER,
    integration_sources.RECONCILER,
    aws_sources.LEGACY_RECONCILER,
    camel_sources.RECONCILER,
    camel_sources.LEGACY_RECONCILER,
    kafka_sources.RECONCILER,
    kafka_sources.LEGACY_RECONCILER,
    container_sources.RECONCILER,
    container_sources.LEGACY_RECONCILER,
    sink_bindings.RECONCILER,
)
CHANNEL_KINDS = (
    CHANNEL,
    KAFKA_CHANNEL,
    IN_MEMORY_CHANNEL,
    NATS_JETSTREAM_CHANNEL,
    SUBSCRIPTION,
    SEQUENCE,
    PARALLEL,
    LEGACY_CHANNEL,
    LEGACY_SUBSCRIPTION,
)
"""The kinds that a controller leaves alone where Knative's channel controllers run."""
LEGACY_KINDS = (CLUSTER_CHANNEL_PROVISIONER, LEGACY_CHANNEL, LEGACY_SUBSCRIPTION)
"""The kinds of Knative 0.5 that are none of today's in an older version."""
SOURCES_GROUP = "sources.knative.dev"
"""The kinds of this group are left alone where Knative's controllers of sources run."""
LEGACY_SOURCES_GROUP = "sources.eventing.knative.dev"
"""The sources of Knative 0.5."""


def reconcilers_in_cluster(
    reconcilers: Reconcilers, *, channels: bool, sources: bool, legacy: bool, namespaced: bool
) -> Reconcilers:
    """The kinds that a controller reconciles in a cluster: `channels`, `sources` and `legacy` say
    whether those above are among them, `namespaced` whether it serves some namespaces only.
    """
    if not channels:
        reconcilers = reconcilers.without(*CHANNEL_KINDS)
    if not legacy:
        reconcilers = reconcilers.without(*LEGACY_KINDS).without_group(LEGACY_SOURCES_GROUP)
    if not sources:
        reconcilers = reconcilers.without_group(SOURCES_GROUP)
    return reconcilers.namespaced() if namespaced else reconcilers
