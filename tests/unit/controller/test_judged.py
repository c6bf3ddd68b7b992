"""Objects that nobody admitted, as a cluster's API server lets them pass: what is wrong is said, nothing is half done, what ran goes on."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.resources.kinds import BROKER, EVENT_TYPE, TRIGGER
from headrace.resources.resource import Resource
from headrace_controller.reconcile.plan import RemoveRoute
from headrace_controller.reconcile.triggers import reconcile_trigger
from tests.unit.controller.site import Site, broker, config_map, manifest, trigger

FALSE, TRUE = "False", "True"
BROKEN_TRIGGERS: list[tuple[dict[str, Any], str]] = [
    ({"filters": [{"cesql": "type = "}]}, "invalid value: type = : spec.filters[0].cesql"),
    ({"filters": [{"exact": {"Type": "x"}}]}, 'invalid key name "Type"'),
    ({"filters": [{"exact": {"type": "x"}, "suffix": {"type": "x"}}]}, "multiple dialects found"),
    ({"delivery": {"retry": -1}}, "invalid value: -1: spec.delivery.retry"),
    ({"delivery": {"timeout": "soon"}}, "invalid value: soon: spec.delivery.timeout"),
    ({"subscriber": {}}, "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri"),
    ({"subscriber": {"uri": "/only/a/path"}}, "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent"),
    ({"subscriber": "http://sink.example/"}, "spec.subscriber"),
    ({"broker": 7}, "spec.broker"),
    ({"delivery": []}, "spec.delivery"),
    ({"filter": {"attributes": {"type": 1}}}, "spec.filter.attributes.type"),
]


async def stored(site: Site, kind: Any, name: str) -> Resource:
    """As it is now."""
    found = site.find(kind, name)
    assert found is not None
    return found


async def put(site: Site, resource: Resource) -> None:
    """Store what a cluster's API server would let pass."""
    old = site.find(resource.kind, resource.name, resource.namespace)
    kept = {"finalizers": list(old.finalizers)} if old is not None and old.finalizers else {}
    await (site.store.create(resource) if old is None else site.store.replace(resource.with_metadata(**kept)))


@pytest.fixture
async def site() -> Site:
    """An installation with a Broker and a Trigger that work."""
    made = Site()
    await made.restart()
    await put(made, broker())
    await put(made, trigger())
    await made.settle()
    assert (TRUE, "") == made.condition(TRIGGER, "orders")
    return made


async def test_a_broker_shows_the_delivery_that_it_is_given_by_default_once() -> None:
    """It is written with the finalizer, the first write and the only one of its kind: what its owner removes later stays away."""
    site = Site()
    await site.restart()
    said = "clusterDefault: {brokerClass: Kafka, delivery: {retry: 7}}"
    await put(site, config_map("config-br-defaults", {"default-br-config": said}, namespace="knative-eventing"))
    await put(site, broker())
    await put(site, broker("own", spec={"delivery": {"retry": 1}}))
    await put(site, broker("none", spec={"delivery": {}}))
    await site.settle()
    shown = {name: (await stored(site, BROKER, name)).spec.get("delivery") for name in ("default", "own", "none")}
    assert {"default": {"retry": 7}, "own": {"retry": 1}, "none": {}} == shown
    assert "config" not in (await stored(site, BROKER, "default")).spec
    await put(site, broker(spec={}))
    await site.resync()
    assert "delivery" not in (await stored(site, BROKER, "default")).spec


@pytest.mark.parametrize(("spec", "message"), BROKEN_TRIGGERS)
async def test_an_invalid_trigger_says_so_and_nothing_is_made_for_it(spec: dict[str, Any], message: str) -> None:
    """No finalizer, no names, no topics, no record; Ready is False with the errors an admission would have answered."""
    site = Site()
    await site.restart()
    await put(site, broker())
    await site.settle()
    topics, routes = dict(site.admin.topics), site.routes()
    await put(site, trigger(spec=spec))
    await site.settle()
    assert (FALSE, "InvalidSpec") == site.condition(TRIGGER, "orders")
    assert message in site.message(TRIGGER, "orders", "Ready")
    assert 1 == site.status(TRIGGER, "orders")["observedGeneration"]
    assert (topics, routes, ()) == (site.admin.topics, site.routes(), (await stored(site, TRIGGER, "orders")).finalizers)
    await site.delete(TRIGGER, "orders")
    assert [] == await site.settle()


@pytest.mark.parametrize(("spec", "message"), BROKEN_TRIGGERS)
async def test_a_trigger_that_becomes_invalid_goes_on_as_it_was(site: Site, spec: dict[str, Any], message: str) -> None:
    """The last good record stays, and with it what is shown of it; mended, the new one takes its place."""
    routes, before = site.routes(), site.status(TRIGGER, "orders")
    await put(site, trigger(spec=spec))
    await site.settle()
    assert routes == site.routes()
    assert (FALSE, "InvalidSpec") == site.condition(TRIGGER, "orders") == site.condition(TRIGGER, "orders", "SubscriptionReady")
    assert message in site.message(TRIGGER, "orders", "Ready")
    after = site.status(TRIGGER, "orders")
    assert (before["subscriberUri"], 2) == (after["subscriberUri"], after["observedGeneration"])
    await put(site, trigger(uri="http://other.example/"))
    await site.settle()
    assert (TRUE, "") == site.condition(TRIGGER, "orders")
    assert "http://other.example/" == site.status(TRIGGER, "orders")["subscriberUri"]


async def test_an_invalid_trigger_can_be_deleted(site: Site) -> None:
    """Its group and topics go as they always do."""
    await put(site, trigger(spec={"delivery": {"retry": -1}}))
    await site.settle()
    await site.delete(TRIGGER, "orders")
    await site.settle()
    assert site.find(TRIGGER, "orders") is None
    assert not any(key.startswith("subscription/") for key in site.routes())


async def test_a_broker_can_go_from_under_an_invalid_trigger(site: Site) -> None:
    """Its record would otherwise keep the topic for ever."""
    await put(site, trigger(spec={"delivery": {"retry": -1}}))
    await site.settle()
    await site.delete(BROKER, "default")
    steps = await site.settle()
    assert site.find(BROKER, "default") is None
    assert any(isinstance(step, RemoveRoute) and step.key.startswith("subscription/") for step in steps)


async def test_a_broker_that_becomes_invalid_changes_nothing_for_its_triggers(site: Site) -> None:
    """What it says of delivery is not half applied: the Trigger's record stays, BrokerReady says what is wrong."""
    routes = site.routes()
    await put(site, broker(spec={"delivery": {"retry": 3, "backoffPolicy": "quadratic"}}))
    await site.settle()
    assert routes == site.routes()
    assert (FALSE, "InvalidSpec") == site.condition(BROKER, "default") == site.condition(TRIGGER, "orders", "BrokerReady")
    assert "invalid value: quadratic: spec.delivery.backoffPolicy" in site.message(TRIGGER, "orders", "Ready")
    assert "address" in site.status(BROKER, "default")
    await put(site, broker(spec={"delivery": {"retry": 3}}))
    await site.settle()
    assert (TRUE, "") == site.condition(TRIGGER, "orders")
    assert 3 == next(each for key, each in site.routes().items() if key.startswith("subscription/")).delivery.retry


async def test_a_trigger_of_a_broker_that_was_never_valid_waits(site: Site) -> None:
    """It says what is wrong with its Broker."""
    await put(site, broker("odd", spec={"config": {"kind": "ConfigMap"}}))
    await put(site, trigger("second", broker_name="odd"))
    await site.settle()
    assert (FALSE, "InvalidSpec") == site.condition(TRIGGER, "second") == site.condition(TRIGGER, "second", "BrokerReady")
    assert "missing field(s): spec.config.apiVersion, spec.config.name" in site.message(TRIGGER, "second", "Ready")


async def test_what_lacks_defaults_gets_them_and_is_not_written_back(site: Site) -> None:
    """The user's object stays the user's."""
    found = await stored(site, TRIGGER, "orders")
    assert ({"broker", "subscriber"}, {}) == (set(found.spec), found.metadata.get("labels", {}))
    assert {} == (await stored(site, BROKER, "default")).spec


async def test_an_object_without_a_spec_is_survived(site: Site) -> None:
    """And one whose spec is no object, where a CRD allows that."""
    specs: list[Any] = [None, "x", 5, [], {"broker": None}]
    for number, spec in enumerate(specs):
        bare = manifest(TRIGGER, f"t{number}", spec=spec)
        await site.store.create(bare)
    await site.settle()
    assert {(FALSE, "InvalidSpec")} == {site.condition(TRIGGER, f"t{number}") for number in range(5)}
    assert (TRUE, "") == site.condition(TRIGGER, "orders")


async def test_an_invalid_event_type_says_so(site: Site) -> None:
    """By the same rules."""
    await site.store.create(manifest(EVENT_TYPE, "e", spec={"source": "/s"}))
    await site.settle()
    assert (FALSE, "InvalidSpec") == site.condition(EVENT_TYPE, "e") == site.condition(EVENT_TYPE, "e", "ReferenceExists")
    assert "missing field(s): spec.type" == site.message(EVENT_TYPE, "e", "Ready")


async def test_a_mistake_about_one_object_holds_up_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted and logged; nothing of it is half planned, and everybody else is served."""

    def fail_for_one(world: Any, trigger: Resource, claims: Any, draft: Any) -> None:
        reconcile_trigger(world, trigger, claims, draft)
        if trigger.name == "bad":
            raise RuntimeError("a mistake")

    monkeypatch.setattr("headrace_controller.reconcile.reconcile_trigger", fail_for_one)
    await put(site, trigger("bad"))
    await put(site, trigger("good"))
    errors = site.loop.errors
    with capture_logs() as logs:
        await site.settle()
    assert (TRUE, "") == site.condition(TRIGGER, "good")
    assert ({}, ()) == (site.status(TRIGGER, "bad"), (await stored(site, TRIGGER, "bad")).finalizers)
    assert site.loop.errors > errors
    assert "bad" in {each.get("name") for each in logs if each["log_level"] == "error"}


async def test_a_status_that_somebody_else_wrote_is_survived(site: Site) -> None:
    """Whatever is in it, what is true takes its place."""
    found = await stored(site, TRIGGER, "orders")
    for status in ({"conditions": "x"}, {"conditions": [5, None, {"type": 7}]}, {"observedGeneration": "x", "conditions": {}}):
        await site.store.replace_status(found.with_metadata(resourceVersion=None).with_status(status))
        await site.settle()
        assert (TRUE, "") == site.condition(TRIGGER, "orders")
