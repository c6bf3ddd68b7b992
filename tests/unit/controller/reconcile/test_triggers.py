"""Triggers, line by line as Knative has them: what each situation shows in which condition, and
that Ready follows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.resources.resource import Resource
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, manifest, trigger

DEPENDENCY = "knative.dev/dependency"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
CONDITIONS = [
    "BrokerReady",
    "DeadLetterSinkResolved",
    "DependencyReady",
    "OIDCIdentityCreated",
    "Ready",
    "SubscriberResolved",
    "SubscriptionReady",
]


def depends_on(name: str, kind: str = "Broker") -> dict[str, str]:
    """The annotation, as a person would write it."""
    return {
        DEPENDENCY: (
            f'{{"apiVersion": "eventing.knative.dev/v1", "kind": "{kind}", "name": "{name}"}}'
        )
    }


def observed(resource: Resource, generation: int, ready: str | None) -> Resource:
    """A Broker of another class, as its own controller shows it."""
    conditions = (
        []
        if ready is None
        else [{"type": "Ready", "status": ready, "reason": "Why", "message": "because"}]
    )
    return resource.with_status({"observedGeneration": generation, "conditions": conditions})


FOREIGN = broker("foreign", annotations={"eventing.knative.dev/broker.class": "Other"})
SINK: Mapping[str, Any] = {
    "ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "nowhere"}
}


@dataclass(frozen=True)
class Line:
    """One line: what there is, which condition says what."""

    name: str
    there: tuple[Resource, ...]
    condition: str
    status: str
    reason: str = ""
    message: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    broker_name: str = "default"


def line_of_dependency(
    name: str,
    dependency: str,
    status: str,
    reason: str,
    message: str = "",
    *,
    found: Resource | None = None,
) -> Line:
    """What `DependencyReady` says of a Trigger with a Broker that depends on `dependency`, another
    Broker, which is `found`.
    """
    return Line(
        name,
        (broker(),) if found is None else (broker(), found),
        "DependencyReady",
        status,
        reason,
        message,
        annotations=depends_on(dependency),
    )


LINES = [
    Line(
        "no Broker",
        (),
        "BrokerReady",
        FALSE,
        "BrokerDoesNotExist",
        'Broker "default" does not exist',
    ),
    Line(
        "no Broker, nothing to subscribe to",
        (),
        "SubscriptionReady",
        UNKNOWN,
        "NotSubscribed",
        "there is no Broker to read from",
    ),
    Line("a Broker", (broker(),), "BrokerReady", TRUE),
    Line(
        "a Broker that is not Ready",
        (broker(spec={"delivery": {"deadLetterSink": SINK}}),),
        "BrokerReady",
        FALSE,
        "Unable to get the dead letter sink's URI",
        "nowhere",
    ),
    Line(
        "no dead letter sink",
        (broker(),),
        "DeadLetterSinkResolved",
        TRUE,
        "DeadLetterSinkNotConfigured",
        "No dead letter sink is configured.",
    ),
    Line(
        "a dead letter sink",
        (broker(),),
        "DeadLetterSinkResolved",
        TRUE,
        spec={"delivery": {"deadLetterSink": {"uri": "http://d/"}}},
    ),
    Line(
        "the Broker's dead letter sink",
        (broker(spec={"delivery": {"deadLetterSink": {"uri": "http://d/"}}}),),
        "DeadLetterSinkResolved",
        TRUE,
    ),
    Line(
        "a lost dead letter sink",
        (broker(),),
        "DeadLetterSinkResolved",
        FALSE,
        "Unable to get the dead letter sink's URI",
        'brokers.eventing.knative.dev "nowhere" not found',
        {"delivery": {"deadLetterSink": SINK}},
    ),
    Line("a subscriber", (broker(),), "SubscriberResolved", TRUE),
    Line(
        "a lost subscriber",
        (broker(),),
        "SubscriberResolved",
        FALSE,
        "Unable to get the Subscriber's URI",
        f'brokers.eventing.knative.dev "nowhere" not found in namespace "{NAMESPACE}"',
        {"subscriber": SINK},
    ),
    Line("no dependency", (broker(),), "DependencyReady", TRUE),
    Line(
        "a Ready dependency",
        (broker(),),
        "DependencyReady",
        TRUE,
        annotations=depends_on("default"),
    ),
    line_of_dependency(
        "a lost dependency", "gone", FALSE, "DependencyDoesNotExist", 'Broker "gone" not found'
    ),
    line_of_dependency(
        "a dependency of an older generation",
        "foreign",
        UNKNOWN,
        "GenerationNotEqual",
        'metadata.generation, "1", is not equal to its status.observedGeneration, "0"',
        found=observed(FOREIGN, 0, TRUE),
    ),
    line_of_dependency(
        "a dependency without conditions",
        "foreign",
        UNKNOWN,
        "DependencyNotConfigured",
        found=observed(FOREIGN, 1, None),
    ),
    line_of_dependency(
        "a failed dependency", "foreign", FALSE, "Why", "because", found=observed(FOREIGN, 1, FALSE)
    ),
    line_of_dependency(
        "an undecided dependency",
        "foreign",
        UNKNOWN,
        "Why",
        "because",
        found=observed(FOREIGN, 1, UNKNOWN),
    ),
    Line(
        "no tokens",
        (broker(),),
        "OIDCIdentityCreated",
        TRUE,
        "authentication-oidc feature disabled",
    ),
    Line("all is well", (broker(),), "SubscriptionReady", TRUE),
    Line("all is well, and Ready", (broker(),), "Ready", TRUE),
]


@pytest.mark.clause("T1", "T2", "T3", "X2", "X3", "X4", "X5")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
async def test_each_situation_shows_what_knative_shows(line: Line) -> None:
    """Condition, status, reason and message; and Ready is never True while a condition is not."""
    harness = ControllerHarness()
    await harness.restart()
    for each in line.there:
        await harness.apply(each)
        if each.status:
            stored = harness.find(each.kind, each.name)
            assert stored is not None
            await harness.store.replace_status(stored.with_status(each.status))
    await harness.apply(
        trigger(
            broker_name=line.broker_name, spec=dict(line.spec), annotations=dict(line.annotations)
        )
    )
    await harness.settle()
    assert (line.status, line.reason) == harness.condition(TRIGGER, "orders", line.condition)
    assert line.message in harness.message(TRIGGER, "orders", line.condition)
    conditions = harness.status(TRIGGER, "orders")["conditions"]
    others = {
        each["status"]
        for each in conditions
        if each["type"] != "Ready" and each.get("severity", "") == ""
    }
    assert (
        FALSE if FALSE in others else UNKNOWN if UNKNOWN in others else TRUE
    ) == harness.condition(TRIGGER, "orders")[0]
    # A condition that is not True says why.
    assert all(each["status"] == TRUE or each.get("reason") for each in conditions)


@pytest.mark.clause("X1", "X6")
async def test_conditions_are_a_list_by_type_without_repetition() -> None:
    """Sorted, each once; those for information have their severity, and none has a heartbeat."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), trigger())
    await harness.settle()
    conditions = harness.status(TRIGGER, "orders")["conditions"]
    assert sorted([*CONDITIONS, "DeliveryHealthy"]) == [each["type"] for each in conditions]
    assert {"DeliveryHealthy"} == {each["type"] for each in conditions if each.get("severity")}
    assert {"type", "status", "severity", "reason", "message", "lastTransitionTime"} >= {
        key for each in conditions for key in each
    }


@pytest.mark.clause("T2", "T3")
async def test_addresses_are_shown_only_while_they_are_known() -> None:
    """subscriberUri, deadLetterSinkUri and their certificates; a lost subscriber empties
    the field.
    """
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(
        broker(), trigger(spec={"delivery": {"deadLetterSink": {"uri": "http://d/"}}})
    )
    await harness.settle()
    status = harness.status(TRIGGER, "orders")
    assert ("http://sink.example/", "http://d/") == (
        status["subscriberUri"],
        status["deadLetterSinkUri"],
    )
    assert f"knative-trigger-{NAMESPACE}-orders" == status["annotations"]["group.id"]
    await harness.apply(trigger(spec={"subscriber": SINK}))
    await harness.settle()
    assert not {"subscriberUri", "deadLetterSinkUri"} & set(harness.status(TRIGGER, "orders"))


@pytest.mark.clause("T1", "T5")
async def test_a_trigger_before_its_broker_becomes_ready_later() -> None:
    """It says what is missing; the Broker comes, goes under it, and comes again."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(trigger())
    await harness.settle()
    missing = (FALSE, "BrokerDoesNotExist")
    assert (
        missing
        == harness.condition(TRIGGER, "orders")
        == harness.condition(TRIGGER, "orders", "BrokerReady")
    )
    harness.clock.advance(5.0)
    await harness.report()
    await harness.settle()
    assert missing == harness.condition(TRIGGER, "orders")
    await harness.apply(broker())
    await harness.settle()
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")
    await harness.delete(BROKER, "default")
    await harness.settle()
    assert harness.find(BROKER, "default") is None
    assert missing == harness.condition(TRIGGER, "orders")
    await harness.apply(broker())
    await harness.settle()
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")


@pytest.mark.clause("F2", "T4")
async def test_an_edit_is_observed_with_its_verdict() -> None:
    """`kubectl wait` after an edit: generation and observedGeneration differ until the new one is
    in force, then Ready is about it.
    """
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), trigger())
    await harness.settle()
    harness.applies = False
    await harness.apply(trigger(uri="http://other.example/"))
    await harness.settle()
    stored = harness.find(TRIGGER, "orders")
    assert stored is not None
    assert (2, 1) == (stored.generation, stored.status["observedGeneration"])
    assert UNKNOWN == harness.condition(TRIGGER, "orders")[0]
    harness.applies = True
    await harness.report()
    await harness.settle()
    assert (2, TRUE) == (
        harness.status(TRIGGER, "orders")["observedGeneration"],
        harness.condition(TRIGGER, "orders")[0],
    )
    assert "http://other.example/" == harness.status(TRIGGER, "orders")["subscriberUri"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda: trigger(spec={"filter": {"attributes": {"type": "x"}}}),
            ({"attributes": {"type": "x"}},),
        ),
        (
            lambda: trigger(
                spec={
                    "filters": [{"exact": {"type": "x"}}],
                    "filter": {"attributes": {"type": "y"}},
                }
            ),
            ({"exact": {"type": "x"}},),
        ),
        (
            lambda: trigger(spec={"filters": [], "filter": {"attributes": {"type": "y"}}}),
            ({"attributes": {"type": "y"}},),
        ),
        (trigger, ()),
    ],
)
async def test_filters_decide_before_filter(
    change: Callable[[], Resource], expected: tuple[Any, ...]
) -> None:
    """`filters` replaces `filter` when it is not empty."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), change())
    await harness.settle()
    route = next(each for key, each in harness.routes().items() if key.startswith("subscription/"))
    assert expected == route.filters


async def test_a_trigger_may_read_from_another_namespace_if_that_is_enabled() -> None:
    """Feature cross-namespace-event-links: the topic is the Broker's, the group the
    Trigger's own.
    """
    harness = ControllerHarness()
    await harness.restart()
    await harness.store.create(manifest_of_features({"cross-namespace-event-links": "enabled"}))
    ref = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "name": "default",
        "namespace": "elsewhere",
    }
    await harness.apply(broker(namespace="elsewhere"))
    await harness.store.create(trigger(broker_name="", spec={"brokerRef": ref}))
    await harness.settle()
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")
    route = next(each for key, each in harness.routes().items() if key.startswith("subscription/"))
    assert ("knative-broker-elsewhere-default", f"knative-trigger-{NAMESPACE}-orders") == (
        route.topic,
        route.group,
    )


def manifest_of_features(data: Mapping[str, str]) -> Resource:
    """The ConfigMap of flags."""
    return manifest(CONFIG_MAP, "config-features", namespace="knative-eventing", data=dict(data))


@pytest.mark.clause("T1")
async def test_a_missing_broker_is_the_reason_however_long_the_rest_takes() -> None:
    """Ready copies the latest of what failed: nothing that only follows from the missing Broker may
    count as failed.
    """
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(trigger())
    reasons = set()
    for _ in range(6):
        await harness.run_once()
        harness.clock.advance(1.5)
        await harness.report()
        reasons.add(harness.condition(TRIGGER, "orders")[1])
    assert {"BrokerDoesNotExist"} == reasons - {""}
    assert "NotSubscribed" == harness.condition(TRIGGER, "orders", "SubscriptionReady")[1]


async def subscribed() -> ControllerHarness:
    """A Broker and a Trigger that is Ready."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), trigger())
    await harness.settle()
    return harness


async def report_delivery(harness: ControllerHarness, state: SubscriptionState | None) -> None:
    """The dispatchers report this state of the Trigger's subscription, or none."""
    found = harness.find(TRIGGER, "orders")
    assert found is not None
    harness.groups = {} if state is None else {found.uid: state.write()}
    await harness.report()
    await harness.settle()


async def test_a_denied_destination_is_shown_with_the_setting() -> None:
    """The message names the address, the network and the setting."""
    harness = await subscribed()
    denied = (
        "subscriber: the egress policy denies localhost:80: 127.0.0.1 is in 127.0.0.0/8 (loopback,"
        " denied by default)"
    )
    await report_delivery(harness, SubscriptionState(denied=denied, dead_letters=True))
    assert (FALSE, "EgressDenied") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    message = harness.message(TRIGGER, "orders", "DeliveryHealthy")
    assert message.startswith(denied)
    assert "HEADRACE_DISPATCHER_EGRESS_ALLOW" in message


async def test_a_loop_of_replies_is_shown_with_its_members() -> None:
    """As the dispatchers say, with the next step."""
    harness = await subscribed()
    loop = (
        "more than 8 replies to replies (64 are allowed), in a circle through default/billing,"
        " default/orders"
    )
    await report_delivery(harness, SubscriptionState(loop=loop, dead_letters=True))
    assert (FALSE, "ReplyLoop") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    assert harness.message(TRIGGER, "orders", "DeliveryHealthy").startswith(
        f"{loop}; exclude the replies of the others with a filter"
    )


async def test_letters_that_the_sink_rejects_are_shown() -> None:
    """They go before the dead letters, for nothing posts them again."""
    harness = await subscribed()
    await report_delivery(harness, SubscriptionState(dead_letters=True, sink_rejected=True))
    assert (FALSE, "DeadLettersRejected") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    assert "the dead letter sink rejected dead letters" in harness.message(
        TRIGGER, "orders", "DeliveryHealthy"
    )


async def test_attempts_that_all_fail_are_shown_with_the_error() -> None:
    """In DeliveryHealthy, whose reason is a column of `kubectl get`; Ready stays."""
    harness = await subscribed()
    error = "http://orders.example/: connect (refused)"
    await report_delivery(harness, SubscriptionState(failing=error))
    assert (FALSE, "AttemptsFailing") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    assert harness.message(TRIGGER, "orders", "DeliveryHealthy").endswith(error)
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")


@pytest.mark.parametrize(("failures", "count"), [(1, "fewer than 10 eval"), (100, "about 100 ev")])
async def test_a_filter_that_fails_is_shown_with_its_error(failures: int, count: str) -> None:
    """It is the least of what may be wrong; Ready stays."""
    harness = await subscribed()
    state = SubscriptionState(filter_error="a value is no Integer", filter_failures=failures)
    await report_delivery(harness, state)
    assert (FALSE, "FilterFailing") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    message = harness.message(TRIGGER, "orders", "DeliveryHealthy")
    assert count in message
    assert "the first: a value is no Integer; run headrace filter" in message
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")
    await report_delivery(harness, state._replace(dead_letters=True))
    assert (FALSE, "DeadLetters") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")


async def test_dead_letters_are_shown_and_where_to_look() -> None:
    """DeliveryHealthy names the command, Ready stays; when the dispatchers report none, the
    condition is True again.
    """
    harness = await subscribed()
    await report_delivery(harness, SubscriptionState(dead_letters=True, breaker="open"))
    assert (FALSE, "BreakerOpen") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    await report_delivery(harness, SubscriptionState(dead_letters=True))
    assert (FALSE, "DeadLetters") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    assert f"headrace dead-letters orders -n {NAMESPACE}" in harness.message(
        TRIGGER, "orders", "DeliveryHealthy"
    )
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")
    await report_delivery(harness, None)
    assert (TRUE, "") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
