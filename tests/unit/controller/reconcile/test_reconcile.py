"""The decision itself, as a table: one world a row, the steps that must come out of it, and the
conditions it shows.

Rows are the situations in which the order of things matters;
`tests/unit/controller/test_lifecycle.py` runs the same decisions in sequence.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.domain.delivery import DeliveryPolicy
from headrace.domain.ports import Instance
from headrace.domain.routing import (
    Addressable,
    Delays,
    DelayTier,
    Destination,
    Reply,
    Route,
    Subscription,
    route_key,
)
from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.conditions import condition_of
from headrace.resources.control_ports import ClusterDescription, GroupState, TopicDescription
from headrace.resources.kinds import BROKER, TRIGGER
from headrace.resources.naming import DELAY_GROUP, DELAY_TIERS, delay_topic
from headrace.resources.ownership_record import OwnedTopic, OwnershipRecord, TopicRole, TopicStage
from headrace.resources.resource import Resource
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.observed_state import (
    FINALIZER,
    Installation,
    ObservedState,
    StepFailure,
)
from headrace_controller.reconcile.plan import Plan, SetStatus, Step
from headrace_controller.reconcile.reconciler import reconcile
from headrace_controller.topic_backend.backend import TopicDecisions
from headrace_controller.topic_backend.state import TopicBackendState
from headrace_controller.topic_backend.topic_specs import (
    delay_topic_specs,
    retry_or_dead_letter_topic_spec,
)
from tests.support.api_admission import admit

TOPIC, GROUP = "knative-broker-ns-b", "knative-trigger-ns-t"
NOW = 1_800_000_000.0
NAMESPACED = RECONCILERS.namespaced()
"""No world here has the provisioners that the controller creates outside of namespaces."""
BROKERS = 3


def _resource(kind: Any, name: str, uid: str, spec: dict[str, Any], **metadata: Any) -> Resource:
    bare = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
    }
    return admit(Resource(kind, bare)).with_metadata(
        uid=uid, generation=1, finalizers=[FINALIZER], **metadata
    )


BROKER_B = _resource(BROKER, "b", "ub", {})
TRIGGER_T = _resource(TRIGGER, "t", "ut", {"broker": "b", "subscriber": {"uri": "http://s/"}})
BROKER_RECORD = OwnershipRecord(
    uid="ub",
    kind="Broker",
    namespace="ns",
    name="b",
    topics=(OwnedTopic(name=TOPIC, role=TopicRole.CHANNEL, stage=TopicStage.CREATED, id="1"),),
)
TRIGGER_RECORD = OwnershipRecord(
    uid="ut",
    kind="Trigger",
    namespace="ns",
    name="t",
    group=GROUP,
    topics=tuple(
        OwnedTopic(name=f"{GROUP}.{role}", role=role, stage=TopicStage.CREATED, id="1")
        for role in (TopicRole.RETRY, TopicRole.DEAD)
    ),
    source=f"{TOPIC}@1",
    started=10,
)
DELAYS_RECORD = OwnershipRecord(
    uid="delays",
    kind="Delays",
    namespace="",
    name="delays",
    topics=tuple(
        OwnedTopic(name=delay_topic(label), role=TopicRole.DELAY, stage=TopicStage.CREATED, id="1")
        for label, _ in DELAY_TIERS
    ),
)


def _facts(name: str, partitions: int, settings: dict[str, str]) -> TopicDescription:
    return TopicDescription(
        name=name, partitions=partitions, replication=3, id="1", settings=settings
    )


TOPICS = {
    TOPIC: _facts(TOPIC, 10, {"max.message.bytes": "1048576", "min.insync.replicas": "2"}),
    **{
        f"{GROUP}.{role}": _facts(
            f"{GROUP}.{role}",
            1,
            dict(
                retry_or_dead_letter_topic_spec(
                    "x", channel_bytes_max=1_048_576, brokers=BROKERS
                ).settings
            ),
        )
        for role in (TopicRole.RETRY, TopicRole.DEAD)
    },
    **{
        spec.name: _facts(spec.name, 4, dict(spec.settings))
        for spec in delay_topic_specs(bytes_max=1_048_576, brokers=BROKERS)
    },
}
ROUTE_B = Addressable(
    uid="ub",
    generation=1,
    epoch=1,
    namespace="ns",
    name="b",
    kind="Broker",
    topic=TOPIC,
    paths=("/ns/b",),
    hosts=("b-broker.ns.svc.cluster.local",),
)
ROUTE_T = Subscription(
    uid="ut",
    generation=1,
    epoch=1,
    namespace="ns",
    name="t",
    kind="Trigger",
    topic=TOPIC,
    group=GROUP,
    retry_topic=f"{GROUP}.retry",
    dead_topic=f"{GROUP}.dead",
    subscriber=Destination(url="http://s/"),
    reply=Reply(topic=TOPIC),
    delivery=DeliveryPolicy(),
)
ROUTE_DELAYS = Delays(
    generation=1,
    epoch=1,
    group=DELAY_GROUP,
    tiers=tuple(DelayTier(seconds=s, topic=delay_topic(label)) for label, s in DELAY_TIERS),
)
LIVE = tuple(Instance(service, service, 100, 0) for service in ("ingress", "dispatcher"))


def replace(value: Any, **changes: Any) -> Any:
    """As `dataclasses.replace`; of an observed state also what the backend has observed."""
    if isinstance(value, ObservedState):
        facts = {
            key: changes.pop(key) for key in ("topics", "committed", "groups") if key in changes
        }
        if facts:
            assert isinstance(value.backend, TopicBackendState)
            changes["backend"] = dataclasses.replace(value.backend, **facts)
    return dataclasses.replace(value, **changes)


def _routes(*routes: Route) -> dict[str, Route]:
    return {route_key(route): route for route in (ROUTE_DELAYS, *routes)}


WHOLE = ObservedState(
    installation=Installation(),
    now=NOW,
    epoch=1,
    cluster=ClusterDescription("c", BROKERS),
    resources={BROKER: (BROKER_B,), TRIGGER: (TRIGGER_T,)},
    ownership_records={"ub": BROKER_RECORD, "ut": TRIGGER_RECORD, "delays": DELAYS_RECORD},
    backend=TopicBackendState(topics=TOPICS),
    routes=_routes(ROUTE_B, ROUTE_T),
    routes_end=100,
    instances=LIVE,
)
"""Everything is there; only the statuses have not been written yet."""


def _converged(observed: ObservedState) -> ObservedState:
    """The same world with the statuses its reconcile wants, until it wants no more."""
    for _ in range(3):
        shown = {
            step.resource.uid: step.resource.with_status(step.status)
            for step in reconcile(observed, NAMESPACED, TopicDecisions()).steps
            if isinstance(step, SetStatus)
        }
        observed = replace(
            observed,
            resources={
                kind: tuple(shown.get(each.uid, each) for each in resources)
                for kind, resources in observed.resources.items()
            },
        )
    return observed


CONVERGED = _converged(WHOLE)


def _without(topics: dict[str, TopicDescription], *names: str) -> dict[str, TopicDescription]:
    return {name: facts for name, facts in topics.items() if name not in names}


def _deleting(resource: Resource) -> Resource:
    return resource.with_metadata(deletionTimestamp="2027-01-15T08:00:00Z")


EMPTY_GROUPS = {GROUP: GroupState.EMPTY, f"{GROUP}.retry": GroupState.ABSENT}
GONE_GROUPS = {GROUP: GroupState.ABSENT, f"{GROUP}.retry": GroupState.ABSENT}
(CONVERGED_B,), (CONVERGED_T,) = CONVERGED.of(BROKER), CONVERGED.of(TRIGGER)
LEAVING = replace(
    CONVERGED,
    resources={BROKER: (CONVERGED_B,), TRIGGER: (_deleting(CONVERGED_T),)},
    routes=_routes(ROUTE_B),
)
RETIRED_TRIGGER_RECORD = replace(
    TRIGGER_RECORD, group="", topics=TRIGGER_RECORD.topics[1:], retired_until=int(NOW)
)
TRIGGER_GONE = replace(
    CONVERGED,
    resources={BROKER: (CONVERGED_B,)},
    routes=_routes(ROUTE_B),
    ownership_records={**CONVERGED.ownership_records, "ut": RETIRED_TRIGGER_RECORD},
)
"""Its dead letter topic is kept until now."""
NO_INITIAL_OFFSETS = {
    **CONVERGED.ownership_records,
    "ut": replace(TRIGGER_RECORD, source="", started=0),
}


@dataclass(frozen=True)
class Row:
    """A situation, the steps it calls for (statuses aside, and whether there are any), and what the
    Trigger shows.
    """

    name: str
    observed: ObservedState
    steps: Sequence[str] = ()
    shows: tuple[str, str, str] | None = None


ROWS = [
    Row("converged", CONVERGED),
    Row("only the statuses are missing", WHOLE, shows=("SubscriptionReady", "True", "")),
    Row(
        "no finalizer yet",
        replace(
            CONVERGED,
            resources={
                BROKER: (CONVERGED_B,),
                TRIGGER: (CONVERGED_T.with_metadata(finalizers=None),),
            },
        ),
        ["AddFinalizer"],
    ),
    Row(
        "names not claimed yet",
        replace(
            CONVERGED,
            ownership_records={k: v for k, v in CONVERGED.ownership_records.items() if k != "ut"},
            routes=_routes(ROUTE_B),
        ),
        ["SaveOwnershipRecord"],
    ),
    Row(
        "topics not seen yet",
        replace(
            CONVERGED,
            ownership_records={
                **NO_INITIAL_OFFSETS,
                "ut": replace(
                    NO_INITIAL_OFFSETS["ut"],
                    topics=tuple(
                        replace(t, stage=TopicStage.CLAIMED, id="") for t in TRIGGER_RECORD.topics
                    ),
                ),
            },
            topics=_without(TOPICS, f"{GROUP}.retry", f"{GROUP}.dead"),
            routes=_routes(ROUTE_B),
        ),
        ["SaveOwnershipRecord"],
        ("SubscriptionReady", "Unknown", "TopicCreating"),
    ),
    Row(
        "topics intended",
        replace(
            CONVERGED,
            ownership_records={
                **NO_INITIAL_OFFSETS,
                "ut": replace(
                    NO_INITIAL_OFFSETS["ut"],
                    topics=tuple(
                        replace(t, stage=TopicStage.INTENDED, id="") for t in TRIGGER_RECORD.topics
                    ),
                ),
            },
            topics=_without(TOPICS, f"{GROUP}.retry", f"{GROUP}.dead"),
            routes=_routes(ROUTE_B),
        ),
        ["CreateTopic", "CreateTopic"],
        ("SubscriptionReady", "Unknown", "TopicCreating"),
    ),
    Row(
        "topics refused a moment ago",
        replace(
            CONVERGED,
            ownership_records={
                **NO_INITIAL_OFFSETS,
                "ut": replace(
                    NO_INITIAL_OFFSETS["ut"],
                    topics=tuple(
                        replace(t, stage=TopicStage.INTENDED, id="") for t in TRIGGER_RECORD.topics
                    ),
                ),
            },
            topics=_without(TOPICS, f"{GROUP}.retry", f"{GROUP}.dead"),
            routes=_routes(ROUTE_B),
            failed_steps={
                f"{GROUP}.{role}": StepFailure("no rights", NOW + 1)
                for role in (TopicRole.RETRY, TopicRole.DEAD)
            },
        ),
        [],
        ("SubscriptionReady", "False", "TopicCreationFailed"),
    ),
    Row(
        "offsets unknown",
        replace(CONVERGED, ownership_records=NO_INITIAL_OFFSETS, routes=_routes(ROUTE_B)),
        [],
        ("SubscriptionReady", "Unknown", "InitialOffsetsNotCommitted"),
    ),
    Row(
        "some offsets committed",
        replace(
            CONVERGED,
            ownership_records=NO_INITIAL_OFFSETS,
            routes=_routes(ROUTE_B),
            committed={GROUP: dict.fromkeys(range(7), 0)},
        ),
        ["CommitInitialOffsets"],
        ("SubscriptionReady", "Unknown", "InitialOffsetsNotCommitted"),
    ),
    Row(
        "all offsets committed",
        replace(
            CONVERGED,
            ownership_records=NO_INITIAL_OFFSETS,
            routes=_routes(ROUTE_B),
            committed={GROUP: dict.fromkeys(range(10), 0)},
        ),
        ["SaveOwnershipRecord"],
    ),
    Row("no routing record", replace(CONVERGED, routes=_routes(ROUTE_B)), ["PutRoute"]),
    Row(
        "a new term writes its epoch",
        replace(CONVERGED, epoch=2),
        ["PutRoute", "PutRoute", "PutRoute"],
    ),
    Row(
        "a process that joins does not unready anything",
        replace(CONVERGED, instances=(*LIVE, Instance("new", "dispatcher", 3, 0))),
    ),
    Row(
        "a process lags at first",
        replace(WHOLE, instances=(*LIVE, Instance("slow", "dispatcher", 99, 0))),
        [],
        ("SubscriptionReady", "Unknown", "RoutingRecordNotApplied"),
    ),
    Row(
        "no dispatcher",
        replace(CONVERGED, instances=LIVE[:1]),
        [],
        ("SubscriptionReady", "False", "NoDispatcher"),
    ),
    Row(
        "a retry topic lost",
        replace(CONVERGED, topics=_without(TOPICS, f"{GROUP}.retry")),
        [],
        ("SubscriptionReady", "False", "TopicLost"),
    ),
    Row(
        "a delay topic lost",
        replace(CONVERGED, topics=_without(TOPICS, "headrace.delay.1m")),
        ["SaveOwnershipRecord"],
    ),
    Row(
        "partitions added, nobody reads",
        replace(
            CONVERGED,
            topics={**TOPICS, TOPIC: replace(TOPICS[TOPIC], partitions=12)},
            committed={GROUP: dict.fromkeys(range(10), 5)},
            groups={GROUP: GroupState.EMPTY},
            instances=(),
        ),
        ["CommitInitialOffsets"],
    ),
    Row(
        "partitions added, a dispatcher reads for the group",
        replace(
            CONVERGED,
            topics={**TOPICS, TOPIC: replace(TOPICS[TOPIC], partitions=12)},
            committed={GROUP: dict.fromkeys(range(10), 5)},
            groups={GROUP: GroupState.EMPTY},
        ),
        ["SaveOwnershipRecord"],
    ),
    Row(
        "partitions added, the group lives",
        replace(
            CONVERGED,
            topics={**TOPICS, TOPIC: replace(TOPICS[TOPIC], partitions=12)},
            committed={GROUP: dict.fromkeys(range(10), 5)},
            groups={GROUP: GroupState.LIVE},
        ),
        ["SaveOwnershipRecord"],
    ),
    Row(
        "offsets forgotten",
        replace(CONVERGED, committed={GROUP: {}}, groups={GROUP: GroupState.ABSENT}, instances=()),
        [],
        ("SubscriptionReady", "False", "OffsetsLost"),
    ),
    Row(
        "offsets forgotten, a dispatcher has them",
        replace(CONVERGED, committed={GROUP: {}}, groups={GROUP: GroupState.ABSENT}),
        [],
    ),
    Row(
        "a dispatcher ends its requests for the subscription",
        replace(
            LEAVING,
            groups=EMPTY_GROUPS,
            instances=(
                Instance(
                    "d",
                    "dispatcher",
                    LEAVING.instances[0].applied,
                    0,
                    groups={CONVERGED_T.uid: SubscriptionState(draining=True).write()},
                ),
            ),
        ),
    ),
    Row(
        "the Broker is gone",
        replace(CONVERGED, resources={TRIGGER: (CONVERGED_T,)}),
        ["RemoveRoute", "RemoveRoute"],
        ("BrokerReady", "False", "BrokerDoesNotExist"),
    ),
    Row("a deletion begins", replace(LEAVING, routes=_routes(ROUTE_B, ROUTE_T)), ["RemoveRoute"]),
    Row(
        "a process has not seen the tombstone",
        replace(LEAVING, instances=(Instance("d", "dispatcher", 99, 0),), groups=EMPTY_GROUPS),
    ),
    Row("the group is not known", LEAVING),
    Row(
        "consumers are still there",
        replace(LEAVING, groups={**EMPTY_GROUPS, GROUP: GroupState.LIVE}),
    ),
    Row(
        "retry consumers are still there",
        replace(LEAVING, groups={**EMPTY_GROUPS, f"{GROUP}.retry": GroupState.LIVE}),
    ),
    Row("the group is empty", replace(LEAVING, groups=EMPTY_GROUPS), ["DeleteGroup"]),
    Row("the group is gone", replace(LEAVING, groups=GONE_GROUPS), ["DeleteTopic"]),
    Row(
        "the retry topic is gone",
        replace(LEAVING, groups=GONE_GROUPS, topics=_without(TOPICS, f"{GROUP}.retry")),
        ["SaveOwnershipRecord"],
    ),
    Row(
        "the holding is retired",
        replace(
            LEAVING,
            ownership_records={
                **CONVERGED.ownership_records,
                "ut": replace(RETIRED_TRIGGER_RECORD, retired_until=int(NOW) + 60),
            },
        ),
        ["RemoveFinalizer"],
    ),
    Row("the grace period is over", TRIGGER_GONE, ["DeleteTopic"]),
    Row(
        "the dead letters are gone",
        replace(TRIGGER_GONE, topics=_without(TOPICS, f"{GROUP}.dead")),
        ["DeleteOwnershipRecord"],
    ),
    Row(
        "a Broker is deleted while its Trigger reads",
        replace(
            CONVERGED,
            resources={BROKER: (_deleting(CONVERGED_B),), TRIGGER: (CONVERGED_T,)},
            groups={GROUP: GroupState.LIVE},
        ),
        ["RemoveRoute", "RemoveRoute"],
        ("BrokerReady", "False", "BrokerDoesNotExist"),
    ),
]


def _kinds(plan: Plan) -> list[str]:
    return [type(step).__name__ for step in plan.steps if not isinstance(step, SetStatus)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_world_calls_for(row: Row) -> None:
    """Exactly these steps, in this order, and this condition."""
    plan = reconcile(row.observed, NAMESPACED, TopicDecisions())
    assert list(row.steps) == _kinds(plan)
    if row.shows is not None:
        name, *expected = row.shows
        found = condition_of(_status_of(plan.steps), name)
        assert found is not None
        assert expected == [str(found.status), found.reason]


def _status_of(steps: Sequence[Step]) -> Any:
    return next(
        (
            step.status
            for step in steps
            if isinstance(step, SetStatus) and step.resource.kind is TRIGGER
        ),
        {},
    )


def test_a_converged_world_calls_for_nothing() -> None:
    """Neither steps nor statuses nor another look."""
    assert Plan() == reconcile(CONVERGED, NAMESPACED, TopicDecisions())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_decision_is_a_function_of_its_world(row: Row) -> None:
    """The same world gives the same plan."""
    assert reconcile(row.observed, NAMESPACED, TopicDecisions()) == reconcile(
        row.observed, NAMESPACED, TopicDecisions()
    )
