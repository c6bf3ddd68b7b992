"""Field numbers of the few kinds that Go clients send as protobuf, such as `kubectl create
namespace` and typed clients. (pure)

One line per message: `number name type`, from the published definitions of the Kubernetes API,
which never change a number. A `?` after the type marks a field that is written only if it is set,
so that its zero is a value; other fields are always written, and their zero means absent. `*` marks
a list, `{}` a map from text.
"""

from collections.abc import Mapping
from typing import NamedTuple


class WireField(NamedTuple):
    """One field of a message."""

    name: str
    type: str
    """`text`, `int`, `bool`, `bytes`, or the name of a message."""
    repeated: bool = False
    mapped: bool = False
    optional: bool = False


_LINES = {
    "Namespace": "1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status NamespaceStatus",
    "NamespaceSpec": "1 finalizers text*",
    "NamespaceStatus": "1 phase text",
    "ConfigMap": "1 metadata ObjectMeta, 2 data text{}, 3 binaryData bytes{}, 4 immutable bool?",
    "Secret": (
        "1 metadata ObjectMeta, 2 data bytes{}, 3 type text, 4 stringData text{}, 5 immutable bool?"
    ),
    "ServiceAccount": (
        "1 metadata ObjectMeta, 2 secrets ObjectReference*,"
        " 3 imagePullSecrets LocalObjectReference*, 4 automountServiceAccountToken bool?"
    ),
    "Service": "1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status ServiceStatus",
    "ServiceSpec": (
        "1 ports ServicePort*, 2 selector text{}, 3 clusterIP text, 4 type text,"
        " 5 externalIPs text*, 7 sessionAffinity text, 8 loadBalancerIP text,"
        " 9 loadBalancerSourceRanges text*, 10 externalName text, 11 externalTrafficPolicy text,"
        " 12 healthCheckNodePort int, 13 publishNotReadyAddresses bool,"
        " 14 sessionAffinityConfig SessionAffinityConfig, 17 ipFamilyPolicy text?,"
        " 18 clusterIPs text*, 19 ipFamilies text*, 20 allocateLoadBalancerNodePorts bool?,"
        " 21 loadBalancerClass text?, 22 internalTrafficPolicy text?, 23 trafficDistribution text?"
    ),
    "ServicePort": (
        "1 name text, 2 protocol text, 3 port int, 4 targetPort IntOrString, 5 nodePort int,"
        " 6 appProtocol text?"
    ),
    "SessionAffinityConfig": "1 clientIP ClientIPConfig",
    "ClientIPConfig": "1 timeoutSeconds int?",
    "ServiceStatus": "1 loadBalancer LoadBalancerStatus, 2 conditions Condition*",
    "LoadBalancerStatus": "1 ingress LoadBalancerIngress*",
    "LoadBalancerIngress": "1 ip text, 2 hostname text, 3 ipMode text?",
    "Condition": (
        "1 type text, 2 status text, 3 observedGeneration int, 4 lastTransitionTime Time,"
        " 5 reason text, 6 message text"
    ),
    "Event": (
        "1 metadata ObjectMeta, 2 involvedObject ObjectReference, 3 reason text, 4 message text,"
        " 5 source EventSource, 6 firstTimestamp Time, 7 lastTimestamp Time, 8 count int,"
        " 9 type text, 10 eventTime MicroTime, 11 series EventSeries, 12 action text,"
        " 13 related ObjectReference, 14 reportingComponent text, 15 reportingInstance text"
    ),
    "events.k8s.io/Event": (
        "1 metadata ObjectMeta, 2 eventTime MicroTime, 3 series EventSeries,"
        " 4 reportingController text, 5 reportingInstance text, 6 action text, 7 reason text,"
        " 8 regarding ObjectReference, 9 related ObjectReference, 10 note text, 11 type text,"
        " 12 deprecatedSource EventSource, 13 deprecatedFirstTimestamp Time,"
        " 14 deprecatedLastTimestamp Time, 15 deprecatedCount int"
    ),
    "EventSource": "1 component text, 2 host text",
    "EventSeries": "1 count int, 2 lastObservedTime MicroTime",
    "Lease": "1 metadata ObjectMeta, 2 spec LeaseSpec",
    "LeaseSpec": (
        "1 holderIdentity text?, 2 leaseDurationSeconds int?, 3 acquireTime MicroTime,"
        " 4 renewTime MicroTime, 5 leaseTransitions int?, 6 strategy text?, 7 preferredHolder text?"
    ),
    "DeleteOptions": (
        "1 gracePeriodSeconds int?, 2 preconditions Preconditions, 3 orphanDependents bool?,"
        " 4 propagationPolicy text?, 5 dryRun text*"
    ),
    "Preconditions": "1 uid text?, 2 resourceVersion text?",
    "SelfSubjectAccessReview": "1 metadata ObjectMeta, 2 spec SelfSubjectAccessReviewSpec",
    "SelfSubjectAccessReviewSpec": (
        "1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes NonResourceAttributes"
    ),
    "ResourceAttributes": (
        "1 namespace text, 2 verb text, 3 group text, 4 version text, 5 resource text,"
        " 6 subresource text, 7 name text"
    ),
    "NonResourceAttributes": "1 path text, 2 verb text",
    "SelfSubjectRulesReview": "1 metadata ObjectMeta, 2 spec SelfSubjectRulesReviewSpec",
    "SelfSubjectRulesReviewSpec": "1 namespace text",
    "SelfSubjectReview": "1 metadata ObjectMeta",
    "ObjectMeta": (
        "1 name text, 2 generateName text, 3 namespace text, 4 selfLink text, 5 uid text,"
        " 6 resourceVersion text, 7 generation int, 8 creationTimestamp Time,"
        " 9 deletionTimestamp Time, 10 deletionGracePeriodSeconds int?, 11 labels text{},"
        " 12 annotations text{}, 13 ownerReferences OwnerReference*, 14 finalizers text*,"
        " 17 managedFields ManagedFieldsEntry*"
    ),
    "OwnerReference": (
        "1 kind text, 3 name text, 4 uid text, 5 apiVersion text, 6 controller bool?,"
        " 7 blockOwnerDeletion bool?"
    ),
    "ManagedFieldsEntry": (
        "1 manager text, 2 operation text, 3 apiVersion text, 4 time Time, 6 fieldsType text,"
        " 7 fieldsV1 FieldsV1, 8 subresource text"
    ),
    "ObjectReference": (
        "1 kind text, 2 namespace text, 3 name text, 4 uid text, 5 apiVersion text,"
        " 6 resourceVersion text, 7 fieldPath text"
    ),
    "LocalObjectReference": "1 name text",
    "Time": "1 seconds int, 2 nanos int",
    "MicroTime": "1 seconds int, 2 nanos int",
    "IntOrString": "1 type int, 2 intVal int, 3 strVal text",
    "FieldsV1": "1 raw bytes",
    "Unknown": "1 typeMeta TypeMeta, 2 raw bytes, 3 contentEncoding text, 4 contentType text",
    "TypeMeta": "1 apiVersion text, 2 kind text",
}

ROOTS: Mapping[tuple[str, str], str] = {
    **{
        ("v1", kind): kind
        for kind in (
            "Namespace",
            "ConfigMap",
            "Secret",
            "ServiceAccount",
            "Service",
            "Event",
            "DeleteOptions",
        )
    },
    ("meta.k8s.io/v1", "DeleteOptions"): "DeleteOptions",
    ("events.k8s.io/v1", "Event"): "events.k8s.io/Event",
    ("coordination.k8s.io/v1", "Lease"): "Lease",
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): "SelfSubjectAccessReview",
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): "SelfSubjectRulesReview",
    ("authentication.k8s.io/v1", "SelfSubjectReview"): "SelfSubjectReview",
}
"""The message of an object, by its apiVersion and kind."""


def _field(name: str, kind: str) -> WireField:
    bare = kind.rstrip("*?{}")
    return WireField(
        name,
        bare,
        repeated=kind.endswith("*"),
        mapped=kind.endswith("{}"),
        optional=kind.endswith("?"),
    )


def _message(line: str) -> dict[int, WireField]:
    parts = (each.split() for each in line.split(","))
    return {int(number): _field(name, kind) for number, name, kind in parts}


MESSAGES: Mapping[str, Mapping[int, WireField]] = {
    name: _message(line) for name, line in _LINES.items()
}
"""The fields of each message, by number."""
