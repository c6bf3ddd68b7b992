"""What the ConfigMaps of `knative-eventing` say for all resources, as one value; the built-in
values where there are none.

Admission goes by it when something is written; where somebody else's API server has written, the
controller does so at every look.
"""

from dataclasses import dataclass, field

from headrace.resources.broker_defaults import BrokerDefaults
from headrace.resources.features import Features

SYSTEM_NAMESPACE = "knative-eventing"


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """Flags and defaults in force."""

    features: Features = field(default_factory=Features)
    broker_defaults: BrokerDefaults = field(default_factory=BrokerDefaults)


BUILT_IN = SystemConfig()
