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

CONTROL_TOPICS: tuple[str, ...] = (ROUTING_TOPIC, RESOURCES_TOPIC, INSTANCES_TOPIC)
