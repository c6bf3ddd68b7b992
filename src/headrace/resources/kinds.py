"""The kinds that Headrace serves, with Knative's groups and names, and the kinds of the
controller's own records.
"""

from headrace.resources.resource import ResourceKind

BROKER = ResourceKind(
    group="eventing.knative.dev",
    version="v1",
    kind="Broker",
    plural="brokers",
    singular="broker",
)

TRIGGER = ResourceKind(
    group="eventing.knative.dev",
    version="v1",
    kind="Trigger",
    plural="triggers",
    singular="trigger",
)

EVENT_TYPE = ResourceKind(
    group="eventing.knative.dev",
    version="v1beta2",
    kind="EventType",
    plural="eventtypes",
    singular="eventtype",
)
"""In the version that is stored."""

KAFKA_SINK = ResourceKind(
    group="eventing.knative.dev",
    version="v1alpha1",
    kind="KafkaSink",
    plural="kafkasinks",
    singular="kafkasink",
)

CLUSTER_CHANNEL_PROVISIONER = ResourceKind(
    group="eventing.knative.dev",
    version="v1alpha1",
    kind="ClusterChannelProvisioner",
    plural="clusterchannelprovisioners",
    singular="clusterchannelprovisioner",
    short_names=("ccp",),
    namespaced=False,
)
"""What Channels were made by in Knative 0.5."""

LEGACY_CHANNEL = ResourceKind(
    group="eventing.knative.dev",
    version="v1alpha1",
    kind="Channel",
    plural="channels",
    singular="channel",
    short_names=("chan",),
)
"""The Channel of Knative 0.5. It is a kind of its own: its group is another one than today's."""

LEGACY_SUBSCRIPTION = ResourceKind(
    group="eventing.knative.dev",
    version="v1alpha1",
    kind="Subscription",
    plural="subscriptions",
    singular="subscription",
)
"""The Subscription of Knative 0.5, likewise."""

CHANNEL = ResourceKind(
    group="messaging.knative.dev",
    version="v1",
    kind="Channel",
    plural="channels",
    singular="channel",
    short_names=("ch",),
)

KAFKA_CHANNEL = ResourceKind(
    group="messaging.knative.dev",
    version="v1beta1",
    kind="KafkaChannel",
    plural="kafkachannels",
    singular="kafkachannel",
    short_names=("kc",),
)
"""In the version that is stored."""

IN_MEMORY_CHANNEL = ResourceKind(
    group="messaging.knative.dev",
    version="v1",
    kind="InMemoryChannel",
    plural="inmemorychannels",
    singular="inmemorychannel",
    short_names=("imc",),
)

NATS_JETSTREAM_CHANNEL = ResourceKind(
    group="messaging.knative.dev",
    version="v1alpha1",
    kind="NatsJetStreamChannel",
    plural="natsjetstreamchannels",
    singular="natsjetstreamchannel",
    short_names=("njsc",),
)

SUBSCRIPTION = ResourceKind(
    group="messaging.knative.dev",
    version="v1",
    kind="Subscription",
    plural="subscriptions",
    singular="subscription",
    short_names=("sub",),
)

SEQUENCE = ResourceKind(
    group="flows.knative.dev",
    version="v1",
    kind="Sequence",
    plural="sequences",
    singular="sequence",
)

PARALLEL = ResourceKind(
    group="flows.knative.dev",
    version="v1",
    kind="Parallel",
    plural="parallels",
    singular="parallel",
)

CLOUD_PUBSUB_SOURCE = ResourceKind(
    group="events.cloud.google.com",
    version="v1",
    kind="CloudPubSubSource",
    plural="cloudpubsubsources",
    singular="cloudpubsubsource",
)

LEGACY_GCP_PUBSUB_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="GcpPubSubSource",
    plural="gcppubsubsources",
    singular="gcppubsubsource",
)
"""Of Knative 0.5; CloudPubSubSource has replaced it."""

CONTAINER_SOURCE = ResourceKind(
    group="sources.knative.dev",
    version="v1",
    kind="ContainerSource",
    plural="containersources",
    singular="containersource",
)

LEGACY_CONTAINER_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="ContainerSource",
    plural="containersources",
    singular="containersource",
)
"""The ContainerSource of Knative 0.5 to 0.7."""

SINK_BINDING = ResourceKind(
    group="sources.knative.dev",
    version="v1",
    kind="SinkBinding",
    plural="sinkbindings",
    singular="sinkbinding",
)

PING_SOURCE = ResourceKind(
    group="sources.knative.dev",
    version="v1",
    kind="PingSource",
    plural="pingsources",
    singular="pingsource",
)

API_SERVER_SOURCE = ResourceKind(
    group="sources.knative.dev",
    version="v1",
    kind="ApiServerSource",
    plural="apiserversources",
    singular="apiserversource",
)

KUBERNETES_EVENT_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="KubernetesEventSource",
    plural="kuberneteseventsources",
    singular="kuberneteseventsource",
)
"""The source of Knative 0.5 that ApiServerSource has taken the place of."""

KAFKA_SOURCE = ResourceKind(
    group="sources.knative.dev",
    version="v1beta1",
    kind="KafkaSource",
    plural="kafkasources",
    singular="kafkasource",
)
"""In the version that is stored."""

LEGACY_KAFKA_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="KafkaSource",
    plural="kafkasources",
    singular="kafkasource",
)
"""The KafkaSource of Knative 0.5, in a group of its own."""

GITHUB_SOURCE = ResourceKind(
    group="sources.knative.dev",
    version="v1alpha1",
    kind="GitHubSource",
    plural="githubsources",
    singular="githubsource",
)

LEGACY_GITHUB_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="GitHubSource",
    plural="githubsources",
    singular="githubsource",
)
"""The GitHubSource of Knative 0.5, in a group of its own."""

WEBHOOK_SOURCE = ResourceKind(
    group="sources.headrace.dev",
    version="v1alpha1",
    kind="WebhookSource",
    plural="webhooksources",
    singular="webhooksource",
)
"""Headrace's own."""

CRON_JOB_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="CronJobSource",
    plural="cronjobsources",
    singular="cronjobsource",
)
"""Of Knative 0.5; PingSource has replaced it."""

INTEGRATION_SOURCE = ResourceKind(
    group="sources.knative.dev",
    version="v1alpha1",
    kind="IntegrationSource",
    plural="integrationsources",
    singular="integrationsource",
)

LEGACY_AWS_SQS_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="AwsSqsSource",
    plural="awssqssources",
    singular="awssqssource",
)
"""Of Knative 0.5; today it is an IntegrationSource."""

CAMEL_SOURCE = ResourceKind(
    group="sources.headrace.dev",
    version="v1alpha1",
    kind="CamelSource",
    plural="camelsources",
    singular="camelsource",
)

LEGACY_CAMEL_SOURCE = ResourceKind(
    group="sources.eventing.knative.dev",
    version="v1alpha1",
    kind="CamelSource",
    plural="camelsources",
    singular="camelsource",
)
"""The CamelSource of Knative 0.5 to 0.7."""

DEPLOYMENT = ResourceKind(
    group="apps",
    version="v1",
    kind="Deployment",
    plural="deployments",
    singular="deployment",
    served=False,
)

SERVICE = ResourceKind(
    group="",
    version="v1",
    kind="Service",
    plural="services",
    singular="service",
    short_names=("svc",),
    has_generation=False,
)

CONFIG_MAP = ResourceKind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    short_names=("cm",),
    has_status=False,
    has_generation=False,
)


def _record_kind(kind: str, plural: str) -> ResourceKind:
    """A kind of the controller's own records: they are in the same store, and are not part of the
    API.
    """
    return ResourceKind(
        group="internal.headrace.dev",
        version="v1",
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        namespaced=False,
        has_status=False,
        has_generation=False,
        served=False,
    )


OWNERSHIP_RECORD = _record_kind("Holding", "holdings")
"""What an owner has in Kafka: see `headrace.resources.ownership_record`."""

STORE_IDENTITY = _record_kind("Source", "sources")
"""Which resource store the topics in this Kafka belong to: one record, so that another installation
does not treat them as its own.
"""

RECORD_KINDS = (OWNERSHIP_RECORD, STORE_IDENTITY)
"""The controller's own records, which are stored beside the resources."""
