"""The compacted topics that the processes of an installation use to coordinate. Every process knows
their names.

The controller builds all other names in Kafka (`headrace.resources.naming`); the other processes
read them from the routing table.
"""

ROUTING_TOPIC = "headrace.routing"
"""What the data plane has to do: one record for each addressable and each subscription."""
RESOURCES_TOPIC = "headrace.resources"
"""The resources, in an installation without a Kubernetes API."""
INSTANCES_TOPIC = "headrace.instances"
"""Which processes are live, and up to which position they have applied the routing table."""
SOURCES_TOPIC = "headrace.sources"
"""Where the sources are that one process runs at a time. A process that is assigned a partition of
this topic in the group `headrace.sources` holds the leases of the sources of that partition.
"""
SOURCES_PARTITIONS = 24
"""The largest number of processes that share such sources."""

CONTROL_TOPICS: tuple[str, ...] = (ROUTING_TOPIC, RESOURCES_TOPIC, INSTANCES_TOPIC, SOURCES_TOPIC)


def control_topic_partitions(name: str) -> int:
    """Return the number of partitions of a control topic."""
    return SOURCES_PARTITIONS if name == SOURCES_TOPIC else 1
