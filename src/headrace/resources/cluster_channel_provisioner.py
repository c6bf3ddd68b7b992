"""ClusterChannelProvisioner (`eventing.knative.dev/v1alpha1`): conditions, and the objects that are
always there.

In Knative 0.5 the installation of a provisioner brought this object with it. Its spec is empty.
"""

from headrace.resources.channel_provisioners import PROVISIONERS
from headrace.resources.conditions import ConditionSet
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import CLUSTER_CHANNEL_PROVISIONER
from headrace.resources.resource import Resource

PROVISIONER_KNOWN = "ProvisionerKnown"
CONDITIONS = ConditionSet(PROVISIONER_KNOWN)
SHAPE: Shape = {"spec": {}}


def built_in() -> tuple[Resource, ...]:
    """The provisioners of this installation. Nobody owns them."""
    kind = CLUSTER_CHANNEL_PROVISIONER
    return tuple(
        Resource(
            kind,
            {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": {"name": name},
                "spec": {},
            },
        )
        for name in PROVISIONERS
    )


RULES = KindRules(SHAPE)
