"""Condition types that several kinds have.

Those of addressables and subscriptions are the ones of Knative's Kafka Broker, Channel, Trigger and
Subscription.
"""

ADDED_TO_CHANNEL = "AddedToChannel"
ADDRESSABLE = "Addressable"
CHANNEL_SERVICE_READY = "ChannelServiceReady"
CONFIGURATION_READY = "ConfigurationReady"
CONFIG_MAP_UPDATED = "ConfigMapUpdated"
"""The routing record is written. The type is Knative's, where that record is in a ConfigMap."""
DATA_PLANE_AVAILABLE = "DataPlaneAvailable"
DURABLE = "Durable"
"""Headrace-specific informational condition: whether accepted events survive the process that has
them. Shown only by channels for which it is False. Does not affect Ready.
"""
EVENT_POLICIES_READY = "EventPoliciesReady"
PROBE_SUCCEEDED = "ProbeSucceeded"
SCHEMA_VALIDATION = "SchemaValidation"
"""Headrace-specific informational condition: whether the schemas of EventTypes can be used, and
whether data conforms to them. Shown only if the addressable asks for checks.
"""
TOPIC_READY = "TopicReady"

DEAD_LETTER_SINK_RESOLVED = "DeadLetterSinkResolved"
DELIVERY_HEALTHY = "DeliveryHealthy"
"""Headrace-specific informational condition: runtime health of a correctly configured subscription.
Does not affect Ready.
"""
OIDC_IDENTITY_CREATED = "OIDCIdentityCreated"
SUBSCRIBER_RESOLVED = "SubscriberResolved"
SUBSCRIPTION_READY = "SubscriptionReady"
