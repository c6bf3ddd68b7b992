"""Condition types that several kinds have.

Those of addressables and subscriptions are the ones of Knative's Kafka Broker, Channel, Trigger and
Subscription.
"""

ADDRESSABLE = "Addressable"
CONFIG_MAP_UPDATED = "ConfigMapUpdated"
"""The routing record is written. The type is Knative's, where that record is in a ConfigMap."""
DATA_PLANE_AVAILABLE = "DataPlaneAvailable"
PROBE_SUCCEEDED = "ProbeSucceeded"
TOPIC_READY = "TopicReady"

DEAD_LETTER_SINK_RESOLVED = "DeadLetterSinkResolved"
DELIVERY_HEALTHY = "DeliveryHealthy"
"""Headrace-specific informational condition: runtime health of a correctly configured subscription.
Does not affect Ready.
"""
SUBSCRIBER_RESOLVED = "SubscriberResolved"
SUBSCRIPTION_READY = "SubscriptionReady"
