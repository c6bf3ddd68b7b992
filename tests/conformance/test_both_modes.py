"""The same lifecycle of a Broker and its Triggers, with resources in Headrace's own store and in a
Kubernetes cluster.
"""

from collections.abc import Iterator

import pytest

from headrace.resources.event_type import event_type_name
from headrace_dispatcher.settings import DispatcherSettings
from tests.support.headrace_on_kubernetes import RBAC, HeadraceOnKubernetes
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    condition,
    group_of,
    kafka_for_headrace,
    wait_for_events,
)
from tests.support.manifests import Manifest, broker, delivery, trigger
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

NAMESPACE = "shop"


@pytest.fixture(scope="module", params=["standalone", "cluster", "cluster, namespaced roles"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation in one of the modes; in a cluster it has only the permissions of the
    examples.
    """
    directory = tmp_path_factory.mktemp("modes")
    kubernetes = None if request.param == "standalone" else request.getfixturevalue("kubernetes")
    with kafka_for_headrace(directory) as apache:
        if kubernetes is None:
            system = HeadraceUnderTest(apache.bootstrap_servers, directory)
        elif request.param == "cluster":
            system = HeadraceOnKubernetes(apache.bootstrap_servers, directory, kubernetes)
        else:
            own = {"controller": {"HEADRACE_KUBERNETES_NAMESPACES": NAMESPACE}}
            bindings = ("headrace-controller", "headrace-addressable-resolver")
            kubernetes.kubectl("delete", "clusterrolebinding", *bindings, "--ignore-not-found")
            roles = RBAC.with_name("rbac-namespaced.yaml")
            system = HeadraceOnKubernetes(
                apache.bootstrap_servers, directory, kubernetes, rbac=roles, own_env=own
            )
        try:
            system.start()
            system.ensure_namespace(NAMESPACE)
            yield system
        except BaseException:
            print(system.processes.report())
            raise
        finally:
            system.close()


def _event(system: HeadraceUnderTest, identity: str, **more: str) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-source": "/s",
        "ce-type": "order.placed",
        **more,
    }
    assert 202 == system.post(f"/{NAMESPACE}/default", headers, b"{}")


@pytest.mark.clause("cluster", "B3", "T3", "E8")
def test_an_event_is_delivered_and_a_refused_one_dead_lettered(system: HeadraceUnderTest) -> None:
    """Broker and Triggers become Ready; one subscriber gets the event, another refuses it and its
    dead letter sink gets it.
    """
    letters = system.sinks.url("letters")
    good = trigger(NAMESPACE, "good", system.sinks.url("good"), attributes={"type": "order.placed"})
    bad = trigger(
        NAMESPACE, "bad", system.sinks.url("bad"), delivery=delivery(retry=0, sink=letters)
    )
    system.sinks.script("bad", Script(status=400))
    system.establish(broker(NAMESPACE), good, bad)
    _event(system, "e.0")
    wait_for_events(system, "good", 1)
    wait_for_events(system, "letters", 1)
    found = _found(system, bad)
    assert letters == found["status"]["deadLetterSinkUri"]
    assert system.sinks.url("bad") == found["status"]["subscriberUri"]
    assert group_of(found) == found["status"]["annotations"]["group.id"]
    assert "default" == found["metadata"].get("labels", {}).get(
        "eventing.knative.dev/broker", "default"
    )


@pytest.mark.clause("T3")
def test_a_url_that_can_never_be_called_is_accepted_and_its_events_are_dead_letters(
    system: HeadraceUnderTest,
) -> None:
    """As in Knative the Trigger becomes Ready; its condition names the URL, and the dead letter is
    written at once with the default policy.
    """
    letters = system.sinks.url("uncalled")
    bad = trigger(NAMESPACE, "uncalled", "bad://uri", delivery={"deadLetterSink": {"uri": letters}})
    system.establish(broker(NAMESPACE), bad)
    _event(system, "uncalled.0")
    wait_for_events(system, "uncalled", 1)
    resolved, healthy = (
        condition(_found(system, bad), name) for name in ("SubscriberResolved", "DeliveryHealthy")
    )
    assert ("True", "UnsupportedScheme") == (resolved["status"], resolved["reason"])
    assert ("False", "UnsupportedScheme") == (healthy["status"], healthy["reason"])
    assert (
        "bad://uri can never be called, only http and https URLs can; change spec.subscriber"
        in healthy["message"]
    )


def test_a_trigger_waits_for_its_dependency(system: HeadraceUnderTest) -> None:
    """The dependency is a source, which the example roles let the controller read."""
    ref = '{"apiVersion":"sources.knative.dev/v1","kind":"PingSource","name":"pings"}'
    waiting = trigger(NAMESPACE, "waiting", system.sinks.url("waiting"))
    waiting["metadata"]["annotations"] = {"knative.dev/dependency": ref}

    def shows(reason: str) -> None:
        wait_until(
            lambda: condition(_found(system, waiting), "DependencyReady").get("reason") == reason,
            20,
            f"{reason}",
            every=0.1,
        )

    pings = f"/apis/sources.knative.dev/v1/namespaces/{NAMESPACE}/pingsources"
    system.apply(broker(NAMESPACE), waiting)
    shows("DependencyDoesNotExist")
    spec = {"schedule": "* * * * *", "sink": {"uri": "http://sink.example/"}}
    metadata = {"name": "pings", "namespace": NAMESPACE}
    system.call(
        "POST",
        pings,
        {
            "apiVersion": "sources.knative.dev/v1",
            "kind": "PingSource",
            "metadata": metadata,
            "spec": spec,
        },
    )
    try:
        shows("GenerationNotEqual")  # No controller handles it, so it has no status.
    finally:
        system.call("DELETE", f"{pings}/pings")


@pytest.mark.clause("T1")
def test_a_trigger_may_be_created_before_its_broker(system: HeadraceUnderTest) -> None:
    """Its condition says what is missing, and it becomes Ready when the Broker exists."""
    early = trigger(NAMESPACE, "early", system.sinks.url("early"), broker="late")
    system.apply(early)
    wait_until(
        lambda: condition(_found(system, early), "Ready").get("reason") == "BrokerDoesNotExist",
        20,
        "the reason is shown",
        every=0.1,
    )
    system.establish(broker(NAMESPACE, "late"))
    system.wait_ready(early)


def test_transitions_are_recorded_as_events(system: HeadraceUnderTest) -> None:
    """`kubectl describe` shows that a Trigger became Ready, and why another did not."""
    orphan = trigger(NAMESPACE, "orphan", system.sinks.url("orphan"), broker="nowhere")
    ready = trigger(NAMESPACE, "ready", system.sinks.url("ready"))
    system.establish(broker(NAMESPACE), ready)
    system.apply(orphan)

    def reasons(name: str) -> set[tuple[str, str]]:
        events = system.call(
            "GET",
            f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=involvedObject.name%3D{name}",
        )["items"]
        return {(each["type"], each["reason"]) for each in events}

    wait_until(
        lambda: ("Normal", "TriggerReady") in reasons("ready"),
        15,
        "the Event of a ready Trigger",
        every=0.1,
    )
    wait_until(
        lambda: ("Warning", "BrokerDoesNotExist") in reasons("orphan"),
        15,
        "the Event of one without a Broker",
        every=0.1,
    )


@pytest.mark.clause("F2", "T4")
def test_a_changed_filter_is_applied_when_it_is_observed(system: HeadraceUnderTest) -> None:
    """After an edit, Ready and observedGeneration show when the new filter is applied."""
    picky = trigger(NAMESPACE, "picky", system.sinks.url("picky"), attributes={"type": "never"})
    system.establish(broker(NAMESPACE), picky)
    picky["spec"]["filter"] = {"attributes": {"type": "order.placed", "subject": "now"}}
    system.establish(picky)
    _event(system, "picky.0", **{"ce-subject": "now"})
    wait_for_events(system, "picky", 1)


def test_a_deleted_resource_is_removed_with_its_topics(system: HeadraceUnderTest) -> None:
    """The finalizer keeps a Trigger until its group and retry topic are deleted; its dead letters
    stay.
    """
    gone = trigger(NAMESPACE, "gone", system.sinks.url("gone"))
    system.establish(broker(NAMESPACE), gone)
    group = group_of(_found(system, gone))
    system.delete(gone)
    assert f"{group}.retry" not in system.log.topics()
    assert f"{group}.dead" in system.log.topics()


def test_each_service_shows_the_settings_it_uses(system: HeadraceUnderTest) -> None:
    """From its command line, its environment and the defaults."""
    for name, variable, value in (
        ("ingress", "HEADRACE_INGRESS_PORT", system.ingress_port),
        ("dispatcher-0", "HEADRACE_DISPATCHER_DRAIN_SECONDS", DispatcherSettings.drain_seconds),
        ("controller", "HEADRACE_CONTROLLER_INGRESS_URL", system.ingress_url),
    ):
        found = system.settings(name)
        assert found[variable] == value
        assert found["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"] == system.log.bootstrap_servers
        assert found["HEADRACE_LOG_FORMAT"] == "json"
        assert system.management_url(name).endswith(f":{found['HEADRACE_MANAGEMENT_PORT']}")


def test_another_controller_takes_over(system: HeadraceUnderTest) -> None:
    """One is the standby while the other is the leader, and takes over when the leader stops."""
    system.establish(broker(NAMESPACE))
    system.run_second_controller()
    system.services["controller"].stop()
    try:
        system.establish(trigger(NAMESPACE, "handed-over", system.sinks.url("handed-over")))
    finally:
        system.end_second_controller()


def _found(system: HeadraceUnderTest, manifest: Manifest) -> Manifest:
    found = system.get(manifest)
    assert found is not None, f"{manifest['metadata']['name']} exists"
    return found


def test_a_broker_shows_its_defaults_from_config_br_defaults(system: HeadraceUnderTest) -> None:
    """In its own spec.delivery. In a cluster it is written once: what the owner removes is not
    added again.
    """
    defaults = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-br-defaults", "namespace": "knative-eventing"},
    }
    text = "clusterDefault: {brokerClass: Kafka, delivery: {retry: 7, backoffDelay: PT1S}}"
    plain, own = broker(NAMESPACE, "plain"), broker(NAMESPACE, "own", delivery={"retry": 1})
    system.apply({**defaults, "data": {"default-br-config": text}})
    try:
        # The ConfigMap reaches a controller in a cluster after a delay, and a Broker that was first
        # seen before that has no default.
        first = broker(NAMESPACE, "first")
        system.establish(first)
        system.establish(plain, own)
        assert {"retry": 7, "backoffDelay": "PT1S"} == _found(system, plain)["spec"]["delivery"]
        assert {"retry": 1} == _found(system, own)["spec"]["delivery"]
        if isinstance(system, HeadraceOnKubernetes):
            system.kubernetes.kubectl(
                "patch",
                "broker",
                "plain",
                "-n",
                NAMESPACE,
                "--type=json",
                "-p",
                '[{"op":"remove","path":"/spec/delivery"}]',
            )
            removed = _found(system, plain)["metadata"]["generation"]
            wait_until(
                lambda: _found(system, plain)["status"]["observedGeneration"] == removed,
                20,
                "the removal is observed",
                every=0.1,
            )
            assert "delivery" not in _found(system, plain)["spec"]
    finally:
        system.apply({**defaults, "data": {}})


@pytest.mark.clause("EventTypes")
def test_observed_event_types_are_described(system: HeadraceUnderTest) -> None:
    """With eventtype-auto-create: of a Broker's events and of a Trigger's replies, owned by
    them.
    """
    flags = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-features", "namespace": "knative-eventing"},
    }
    system.sinks.script("answers", Script(mode=Mode.REPLY, reply_type="order.answered"))
    seen, answers = (
        broker(NAMESPACE, "seen"),
        trigger(NAMESPACE, "answers", system.sinks.url("answers"), broker="seen"),
    )
    system.establish(seen, answers)
    system.apply({**flags, "data": {"eventtype-auto-create": "enabled"}})
    path = f"/apis/eventing.knative.dev/v1beta2/namespaces/{NAMESPACE}/eventtypes"

    def described() -> dict[str, str]:
        # The flag reaches the data plane after a delay: events are sent until their type is
        # reported.
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "seen.0",
            "ce-source": "/s",
            "ce-type": "order.seen",
        }
        assert 202 == system.post(f"/{NAMESPACE}/seen", headers, b"{}")
        items = system.call("GET", path)["items"]
        return {
            each["spec"]["type"]: each["metadata"]["ownerReferences"][0]["kind"] for each in items
        }

    try:
        wait_until(
            lambda: (
                {"order.seen": "Broker", "order.answered": "Trigger"}.items() <= described().items()
            ),
            30,
            "both types",
            every=0.5,
        )
        found = {each["spec"]["type"]: each for each in system.call("GET", path)["items"]}
        assert (
            event_type_name("seen", NAMESPACE, "order.seen", "/s")
            == found["order.seen"]["metadata"]["name"]
        )
        wait_until(
            lambda: (
                condition(system.call("GET", path)["items"][0], "Ready").get("status") == "True"
            ),
            15,
            "the EventType is Ready",
            every=0.2,
        )
    finally:
        system.apply({**flags, "data": {}})
