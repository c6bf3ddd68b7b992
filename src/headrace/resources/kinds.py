"""The kinds Headrace serves, with Knative's groups and names, and the controller's own record kinds
beside them.
"""

from headrace.resources.resource import KindRegistry, ResourceKind

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
    """A kind of the controller's own records: they share the store, and are not part of the API."""
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
"""What an owner holds in Kafka: see `headrace.resources.ownership_record`."""

STORE_IDENTITY = _record_kind("Source", "sources")
"""Where the resources stand whose topics are in this Kafka: one record, so that nobody takes them
for the topics of others.
"""

KINDS = KindRegistry((BROKER, TRIGGER, EVENT_TYPE, CONFIG_MAP, OWNERSHIP_RECORD, STORE_IDENTITY))
