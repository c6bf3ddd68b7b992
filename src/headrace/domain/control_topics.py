"""The compacted topics through which the processes of an installation find each other; every
process knows their names.

All other names in Kafka are built by the controller (`headrace.resources.naming`) and read from the
routing table.
"""

ROUTING_TOPIC = "headrace.routing"
"""What the data plane does: one record for each addressable and each subscription."""
RESOURCES_TOPIC = "headrace.resources"
"""The resources themselves, where there is no Kubernetes API."""
INSTANCES_TOPIC = "headrace.instances"
"""Which processes are alive, and how far they have applied the routing table."""

CONTROL_TOPICS: tuple[str, ...] = (ROUTING_TOPIC, RESOURCES_TOPIC, INSTANCES_TOPIC)
