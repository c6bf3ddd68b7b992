"""Objects that were not validated, as a cluster's API server accepts them: errors are reported,
nothing is done in part, what was running keeps running.
"""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.resources.kinds import BROKER, EVENT_TYPE, TRIGGER
from headrace.resources.resource import Resource
from headrace_controller.reconcile import brokers, triggers
from headrace_controller.reconcile.plan import RemoveRoute
from headrace_controller.reconcile.registry import ReconcileRequest, Reconcilers
from tests.unit.controller.harness import ControllerHarness, broker, config_map, manifest, trigger

FALSE, TRUE = "False", "True"
BROKEN_TRIGGERS: list[tuple[dict[str, Any], str]] = [
    ({"filters": [{"cesql": "type = "}]}, "invalid value: type = : spec.filters[0].cesql"),
    ({"filters": [{"exact": {"Type": "x"}}]}, 'invalid key name "Type"'),
    ({"filters": [{"exact": {"type": "x"}, "suffix": {"type": "x"}}]}, "multiple dialects found"),
    ({"delivery": {"retry": -1}}, "invalid value: -1: spec.delivery.retry"),
    ({"delivery": {"timeout": "soon"}}, "invalid value: soon: spec.delivery.timeout"),
    (
        {"subscriber": {}},
        "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri",
    ),
    (
        {"subscriber": {"uri": "/only/a/path"}},
        "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent",
    ),
    ({"subscriber": "http://sink.example/"}, "spec.subscriber"),
    ({"broker": 7}, "spec.broker"),
    ({"delivery": []}, "spec.delivery"),
    ({"filter": {"attributes": {"type": 1}}}, "spec.filter.attributes.type"),
]


async def stored(harness: ControllerHarness, kind: Any, name: str) -> Resource:
    """As it is now."""
    found = harness.find(kind, name)
    assert found is not None
    return found


async def put(harness: ControllerHarness, resource: Resource) -> None:
    """Store what a cluster's API server would let pass."""
    old = harness.find(resource.kind, resource.name, resource.namespace)
    kept = {"finalizers": list(old.finalizers)} if old is not None and old.finalizers else {}
    await (
        harness.store.create(resource)
        if old is None
        else harness.store.replace(resource.with_metadata(**kept))
    )


@pytest.fixture
async def harness() -> ControllerHarness:
    """An installation with a Broker and a Trigger that work."""
    made = ControllerHarness()
    await made.restart()
    await put(made, broker())
    await put(made, trigger())
    await made.settle()
    assert (TRUE, "") == made.condition(TRIGGER, "orders")
    return made


async def test_a_broker_shows_the_delivery_that_it_is_given_by_default_once() -> None:
    """It is written with the finalizer, the first write and the only one of its kind: what its
    owner removes later stays away.
    """
    harness = ControllerHarness()
    await harness.restart()
    said = "clusterDefault: {brokerClass: Kafka, delivery: {retry: 7}}"
    await put(
        harness,
        config_map("config-br-defaults", {"default-br-config": said}, namespace="knative-eventing"),
    )
    await put(harness, broker())
    await put(harness, broker("own", spec={"delivery": {"retry": 1}}))
    await put(harness, broker("none", spec={"delivery": {}}))
    await harness.settle()
    shown = {
        name: (await stored(harness, BROKER, name)).spec.get("delivery")
        for name in ("default", "own", "none")
    }
    assert {"default": {"retry": 7}, "own": {"retry": 1}, "none": {}} == shown
    assert "config" not in (await stored(harness, BROKER, "default")).spec
    await put(harness, broker(spec={}))
    await harness.resync()
    assert "delivery" not in (await stored(harness, BROKER, "default")).spec


@pytest.mark.parametrize(("spec", "message"), BROKEN_TRIGGERS)
async def test_an_invalid_trigger_says_so_and_nothing_is_made_for_it(
    spec: dict[str, Any], message: str
) -> None:
    """No finalizer, no names, no topics, no record; Ready is False with the errors an admission
    would have answered.
    """
    harness = ControllerHarness()
    await harness.restart()
    await put(harness, broker())
    await harness.settle()
    topics, routes = dict(harness.admin.topics), harness.routes()
    await put(harness, trigger(spec=spec))
    await harness.settle()
    assert (FALSE, "InvalidSpec") == harness.condition(TRIGGER, "orders")
    assert message in harness.message(TRIGGER, "orders", "Ready")
    assert 1 == harness.status(TRIGGER, "orders")["observedGeneration"]
    assert (topics, routes, ()) == (
        harness.admin.topics,
        harness.routes(),
        (await stored(harness, TRIGGER, "orders")).finalizers,
    )
    await harness.delete(TRIGGER, "orders")
    assert [] == await harness.settle()


@pytest.mark.parametrize(("spec", "message"), BROKEN_TRIGGERS)
async def test_a_trigger_that_becomes_invalid_keeps_running(
    harness: ControllerHarness, spec: dict[str, Any], message: str
) -> None:
    """The last good record stays, and with it its status; once the Trigger is fixed, the new one
    takes its place.
    """
    routes, before = harness.routes(), harness.status(TRIGGER, "orders")
    await put(harness, trigger(spec=spec))
    await harness.settle()
    assert routes == harness.routes()
    assert (
        (FALSE, "InvalidSpec")
        == harness.condition(TRIGGER, "orders")
        == harness.condition(TRIGGER, "orders", "SubscriptionReady")
    )
    assert message in harness.message(TRIGGER, "orders", "Ready")
    after = harness.status(TRIGGER, "orders")
    assert (before["subscriberUri"], 2) == (after["subscriberUri"], after["observedGeneration"])
    await put(harness, trigger(uri="http://other.example/"))
    await harness.settle()
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")
    assert "http://other.example/" == harness.status(TRIGGER, "orders")["subscriberUri"]


async def test_an_invalid_trigger_can_be_deleted(harness: ControllerHarness) -> None:
    """Its group and topics go as they always do."""
    await put(harness, trigger(spec={"delivery": {"retry": -1}}))
    await harness.settle()
    await harness.delete(TRIGGER, "orders")
    await harness.settle()
    assert harness.find(TRIGGER, "orders") is None
    assert not any(key.startswith("subscription/") for key in harness.routes())


async def test_a_broker_can_go_from_under_an_invalid_trigger(harness: ControllerHarness) -> None:
    """Its record would otherwise keep the topic forever."""
    await put(harness, trigger(spec={"delivery": {"retry": -1}}))
    await harness.settle()
    await harness.delete(BROKER, "default")
    steps = await harness.settle()
    assert harness.find(BROKER, "default") is None
    assert any(
        isinstance(step, RemoveRoute) and step.key.startswith("subscription/") for step in steps
    )


async def test_a_broker_that_becomes_invalid_changes_nothing_for_its_triggers(
    harness: ControllerHarness,
) -> None:
    """What it says of delivery is not half applied: the Trigger's record stays, BrokerReady says
    what is wrong.
    """
    routes = harness.routes()
    await put(harness, broker(spec={"delivery": {"retry": 3, "backoffPolicy": "quadratic"}}))
    await harness.settle()
    assert routes == harness.routes()
    assert (
        (FALSE, "InvalidSpec")
        == harness.condition(BROKER, "default")
        == harness.condition(TRIGGER, "orders", "BrokerReady")
    )
    assert "invalid value: quadratic: spec.delivery.backoffPolicy" in harness.message(
        TRIGGER, "orders", "Ready"
    )
    assert "address" in harness.status(BROKER, "default")
    await put(harness, broker(spec={"delivery": {"retry": 3}}))
    await harness.settle()
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")
    assert (
        3
        == next(
            each for key, each in harness.routes().items() if key.startswith("subscription/")
        ).delivery.retry
    )


async def test_a_trigger_of_a_broker_that_was_never_valid_waits(harness: ControllerHarness) -> None:
    """It says what is wrong with its Broker."""
    await put(harness, broker("odd", spec={"config": {"kind": "ConfigMap"}}))
    await put(harness, trigger("second", broker_name="odd"))
    await harness.settle()
    assert (
        (FALSE, "InvalidSpec")
        == harness.condition(TRIGGER, "second")
        == harness.condition(TRIGGER, "second", "BrokerReady")
    )
    assert "missing field(s): spec.config.apiVersion, spec.config.name" in harness.message(
        TRIGGER, "second", "Ready"
    )


async def test_what_lacks_defaults_gets_them_and_is_not_written_back(
    harness: ControllerHarness,
) -> None:
    """The user's object stays the user's."""
    found = await stored(harness, TRIGGER, "orders")
    assert ({"broker", "subscriber"}, {}) == (set(found.spec), found.metadata.get("labels", {}))
    assert {} == (await stored(harness, BROKER, "default")).spec


async def test_an_object_without_a_spec_is_survived(harness: ControllerHarness) -> None:
    """And one whose spec is no object, where a CRD allows that."""
    specs: list[Any] = [None, "x", 5, [], {"broker": None}]
    for number, spec in enumerate(specs):
        bare = manifest(TRIGGER, f"t{number}", spec=spec)
        await harness.store.create(bare)
    await harness.settle()
    assert {(FALSE, "InvalidSpec")} == {
        harness.condition(TRIGGER, f"t{number}") for number in range(5)
    }
    assert (TRUE, "") == harness.condition(TRIGGER, "orders")


async def test_an_invalid_event_type_says_so(harness: ControllerHarness) -> None:
    """By the same rules."""
    await harness.store.create(manifest(EVENT_TYPE, "e", spec={"source": "/s"}))
    await harness.settle()
    assert (
        (FALSE, "InvalidSpec")
        == harness.condition(EVENT_TYPE, "e")
        == harness.condition(EVENT_TYPE, "e", "ReferenceExists")
    )
    assert "missing field(s): spec.type" == harness.message(EVENT_TYPE, "e", "Ready")


async def test_an_internal_error_about_one_object_holds_up_no_other(
    harness: ControllerHarness,
) -> None:
    """It is counted and logged; nothing of it is half planned, and everybody else is served."""

    def fail_for_one(request: ReconcileRequest) -> None:
        triggers.decide(request)
        if request.resource.name == "bad":
            raise RuntimeError("an internal error")

    failing = replace(triggers.RECONCILER, decide=fail_for_one)
    harness.loop.reconcilers = Reconcilers(brokers.RECONCILER, failing)
    await put(harness, trigger("bad"))
    await put(harness, trigger("good"))
    errors = harness.loop.errors
    with capture_logs() as logs:
        await harness.settle()
    assert (TRUE, "") == harness.condition(TRIGGER, "good")
    assert ({}, ()) == (
        harness.status(TRIGGER, "bad"),
        (await stored(harness, TRIGGER, "bad")).finalizers,
    )
    assert harness.loop.errors > errors
    assert "bad" in {each.get("name") for each in logs if each["log_level"] == "error"}


async def test_a_status_that_another_client_wrote_is_replaced(harness: ControllerHarness) -> None:
    """Whatever is in it, what is true takes its place."""
    found = await stored(harness, TRIGGER, "orders")
    for status in (
        {"conditions": "x"},
        {"conditions": [5, None, {"type": 7}]},
        {"observedGeneration": "x", "conditions": {}},
    ):
        await harness.store.replace_status(
            found.with_metadata(resourceVersion=None).with_status(status)
        )
        await harness.settle()
        assert (TRUE, "") == harness.condition(TRIGGER, "orders")
