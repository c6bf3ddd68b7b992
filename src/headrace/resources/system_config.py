"""The ConfigMaps of `knative-eventing` that apply to all resources, as one value, with built-in
values for those that do not exist.

Admission uses it for every write; for objects that another API server stored, the controller uses
it in every reconcile.
"""

from dataclasses import dataclass, field

from headrace.resources.broker_defaults import BrokerDefaults
from headrace.resources.channel_defaults import ChannelDefaults
from headrace.resources.features import Features

SYSTEM_NAMESPACE = "knative-eventing"


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """The flags and defaults that apply."""

    features: Features = field(default_factory=Features)
    broker_defaults: BrokerDefaults = field(default_factory=BrokerDefaults)
    channel_defaults: ChannelDefaults = field(default_factory=ChannelDefaults)


BUILT_IN = SystemConfig()
