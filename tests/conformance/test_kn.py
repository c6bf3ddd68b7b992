"""The requests of `kn`, command by command, to the controller's own API.

No package registry has `kn`, so it runs only if it is on PATH. Its request sequences, as in its
source code, are here: typed clients without discovery, bodies with a null `creationTimestamp` and
an empty `status`, updates by GET and PUT, sinks that are fetched before they are referred to.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

EVENTING = "/apis/eventing.knative.dev/v1/namespaces/default"
EVENT_TYPES = "/apis/eventing.knative.dev/v1beta2/namespaces/default/eventtypes"
MESSAGING = "/apis/messaging.knative.dev/v1/namespaces/default"
SOURCES = "/apis/sources.knative.dev/v1/namespaces/default"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


pytestmark = pytest.mark.clause("kn")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiUnderTest]:
    """One controller for the module."""
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: ApiUnderTest) -> Iterator[ApiUnderTest]:
    """The API without objects of an earlier test."""
    yield server
    for path in (
        f"{EVENTING}/triggers",
        f"{EVENTING}/brokers",
        EVENT_TYPES,
        f"{MESSAGING}/channels",
        f"{SOURCES}/pingsources",
    ):
        server.call("DELETE", path)
        wait_until(
            lambda path=path: not server.call("GET", path)[1]["items"],  # type: ignore[misc]
            10,
            f"{path} to be empty",
        )


def body(api_version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object as Go serialises it."""
    metadata = {"name": name, "namespace": "default", "creationTimestamp": None}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
        "status": {},
    }


def broker(name: str = "default", **spec: Any) -> dict[str, Any]:
    """The body of `kn broker create`."""
    return body("eventing.knative.dev/v1", "Broker", name, spec)


def update(
    api: ApiUnderTest, path: str, change: Callable[[dict[str, Any]], None]
) -> tuple[int, dict[str, Any]]:
    """GET, change, PUT; repeated on a conflict, as kn does, because the controller writes
    finalizers and statuses in between.
    """
    for _ in range(5):
        found = api.call("GET", path)[1]
        change(found)
        code, updated = api.call("PUT", path, found)
        if code != 409:
            break
    return code, updated


def test_broker_create_list_describe_update(api: ApiUnderTest) -> None:
    """Create with options, list, describe, and change the delivery by GET and PUT."""
    sink = {
        "ref": {
            "kind": "Broker",
            "apiVersion": "eventing.knative.dev/v1",
            "name": "letters",
            "namespace": "default",
        }
    }
    made = api.call(
        "POST",
        f"{EVENTING}/brokers",
        broker(delivery={"deadLetterSink": sink, "retry": 3, "backoffPolicy": "linear"}),
    )
    assert 201 == made[0], made[1]
    listed = api.call("GET", f"{EVENTING}/brokers")[1]
    assert ("BrokerList", ["default"]) == (
        listed["kind"],
        [each["metadata"]["name"] for each in listed["items"]],
    )
    found = api.call("GET", f"{EVENTING}/brokers/default")[1]
    assert "Kafka" == found["metadata"]["annotations"]["eventing.knative.dev/broker.class"]
    code, updated = update(
        api, f"{EVENTING}/brokers/default", lambda found: found["spec"]["delivery"].update(retry=5)
    )
    assert (200, 5) == (code, updated["spec"]["delivery"]["retry"])


def test_broker_delete_waits_by_a_watch(api: ApiUnderTest) -> None:
    """--wait: GET, DELETE Foreground, then a watch of the name that ends with DELETED."""
    api.call("POST", f"{EVENTING}/brokers", broker())
    found = api.call("GET", f"{EVENTING}/brokers/default")[1]
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
    assert 200 == api.call("DELETE", f"{EVENTING}/brokers/default", options)[0]
    version = found["metadata"]["resourceVersion"]
    query = f"fieldSelector=metadata.name%3Ddefault&resourceVersion={version}"
    query += "&timeoutSeconds=3&watch=true"
    events = api.watch(f"{EVENTING}/brokers?{query}")
    assert "DELETED" == events[-1]["type"]
    assert 404 == api.call("GET", f"{EVENTING}/brokers/default")[0]


def test_trigger_create_fetches_its_sink(api: ApiUnderTest) -> None:
    """A 404 Status if it does not exist, else a reference with its namespace. Updates are GET and
    PUT.
    """
    code, status = api.call("GET", f"{EVENTING}/brokers/sink")
    assert (404, "Status", "NotFound", "sink") == (
        code,
        status["kind"],
        status["reason"],
        status["details"]["name"],
    )
    api.call("POST", f"{EVENTING}/brokers", broker("sink"))
    assert 200 == api.call("GET", f"{EVENTING}/brokers/sink")[0]
    ref = {
        "kind": "Broker",
        "namespace": "default",
        "name": "sink",
        "apiVersion": "eventing.knative.dev/v1",
    }
    spec = {
        "broker": "default",
        "filter": {"attributes": {"type": "dev.example"}},
        "subscriber": {"ref": ref},
    }
    code, made = api.call(
        "POST", f"{EVENTING}/triggers", body("eventing.knative.dev/v1", "Trigger", "t", spec)
    )
    assert (201, "default") == (code, made["metadata"]["labels"]["eventing.knative.dev/broker"])
    code, updated = update(
        api,
        f"{EVENTING}/triggers/t",
        lambda found: found["spec"].update(filter={"attributes": {"source": "/x"}}),
    )
    assert (200, {"source": "/x"}) == (code, updated["spec"]["filter"]["attributes"])


def test_a_serving_sink_is_a_status_404(api: ApiUnderTest) -> None:
    """A sink without a type means a Knative Service; the API has no such kind, and kn must be able
    to read the error.
    """
    code, status = api.call("GET", "/apis/serving.knative.dev/v1/namespaces/default/services/s")
    assert (404, "Status", "NotFound") == (code, status["kind"], status["reason"])


def test_event_types_are_v1beta2(api: ApiUnderTest) -> None:
    """Created, listed and deleted in the version of kn."""
    spec = {"type": "dev.example", "source": "/s", "broker": "default"}
    code, made = api.call(
        "POST", EVENT_TYPES, body("eventing.knative.dev/v1beta2", "EventType", "e", spec)
    )
    assert (201, "dev.example") == (code, made["spec"]["type"])
    (listed,) = api.call("GET", EVENT_TYPES)[1]["items"]
    assert ("eventing.knative.dev/v1beta2", "/s") == (
        listed["apiVersion"],
        listed["spec"]["source"],
    )
    assert 200 == api.call("DELETE", f"{EVENT_TYPES}/e")[0]


def test_list_types_read_definitions_by_label(api: ApiUnderTest) -> None:
    """source list-types and channel list-types: the fields that kn reads exist."""
    sources = api.call("GET", f"{DEFINITIONS}?labelSelector=duck.knative.dev%2Fsource%3Dtrue")[1]
    assert "CustomResourceDefinitionList" == sources["kind"]
    found = {each["spec"]["names"]["kind"]: each for each in sources["items"]}
    assert {"PingSource", "ApiServerSource", "SinkBinding", "ContainerSource"} <= set(found)
    ping = found["PingSource"]
    assert ("pingsources.sources.knative.dev", "sources.knative.dev", "pingsources") == (
        ping["metadata"]["name"],
        ping["spec"]["group"],
        ping["spec"]["names"]["plural"],
    )
    assert [True] == [each["served"] for each in ping["spec"]["versions"] if each["name"] == "v1"]
    channels = api.call(
        "GET", f"{DEFINITIONS}?labelSelector=messaging.knative.dev%2Fsubscribable%3Dtrue"
    )[1]["items"]
    assert {"Channel", "InMemoryChannel", "KafkaChannel"} <= {
        each["spec"]["names"]["kind"] for each in channels
    }


def test_source_list_lists_every_source_kind(api: ApiUnderTest) -> None:
    """The definitions, then a dynamic list of each kind in its first served version."""
    spec = {"schedule": "* * * * *", "data": "{}", "sink": {"uri": "http://sink.example/"}}
    code, made = api.call(
        "POST", f"{SOURCES}/pingsources", body("sources.knative.dev/v1", "PingSource", "p", spec)
    )
    assert 201 == code, made
    definitions = api.call("GET", f"{DEFINITIONS}?labelSelector=duck.knative.dev%2Fsource%3Dtrue")[
        1
    ]["items"]
    sinks = []
    for each in definitions:
        version = next(version["name"] for version in each["spec"]["versions"] if version["served"])
        plural = each["spec"]["names"]["plural"]
        path = f"/apis/{each['spec']['group']}/{version}/namespaces/default/{plural}"
        code, listed = api.call("GET", path)
        assert 200 == code, path
        sinks += [item["spec"]["sink"]["uri"] for item in listed["items"]]
    assert ["http://sink.example/"] == sinks


def test_channels_and_subscriptions(api: ApiUnderTest) -> None:
    """channel create with a type, subscription create with a reference to the channel."""
    template = {
        "channelTemplate": {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel"}
    }
    code, made = api.call(
        "POST", f"{MESSAGING}/channels", body("messaging.knative.dev/v1", "Channel", "c", template)
    )
    assert 201 == code, made
    assert (
        "InMemoryChannel"
        == api.call("GET", f"{MESSAGING}/channels/c")[1]["spec"]["channelTemplate"]["kind"]
    )
    channel = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "c"}
    spec = {"channel": channel, "subscriber": {"uri": "http://sink.example/"}}
    code, made = api.call(
        "POST",
        f"{MESSAGING}/subscriptions",
        body("messaging.knative.dev/v1", "Subscription", "s", spec),
    )
    assert 201 == code, made
    assert 200 == api.call("DELETE", f"{MESSAGING}/subscriptions/s")[0]


def test_a_channel_without_a_type_is_described(api: ApiUnderTest) -> None:
    """channel describe reads `spec.channelTemplate` of every Channel, and ends without it."""
    channels = f"{MESSAGING}/channels"
    code, made = api.call(
        "POST", channels, body("messaging.knative.dev/v1", "Channel", "plain", {})
    )
    assert 201 == code, made
    found = api.call("GET", f"{channels}/plain")[1]
    assert found["spec"]["channelTemplate"] == {
        "apiVersion": "messaging.knative.dev/v1beta1",
        "kind": "KafkaChannel",
    }
    assert "KafkaChannel" in {
        each["spec"]["names"]["kind"]
        for each in api.call(
            "GET", f"{DEFINITIONS}?labelSelector=messaging.knative.dev/subscribable=true"
        )[1]["items"]
    }


def test_a_subscription_is_updated(api: ApiUnderTest) -> None:
    """subscription update: GET, then PUT with another sink, reply and dead letter sink; a channel
    cannot be changed.
    """
    channel = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "c"}
    spec = {"channel": channel, "subscriber": {"uri": "http://sink.example/"}}
    created = body("messaging.knative.dev/v1", "Subscription", "changed", spec)
    path = f"{MESSAGING}/subscriptions"
    assert 201 == api.call("POST", path, created)[0]
    targets = {
        "subscriber": {"uri": "http://other.example/"},
        "reply": {"uri": "http://reply.example/"},
        "delivery": {"deadLetterSink": {"uri": "http://dead.example/"}},
    }
    code, changed = _update(api, f"{path}/changed", targets)
    assert (200, 2) == (code, changed["metadata"]["generation"])
    code, refused = _update(api, f"{path}/changed", {"channel": {**channel, "name": "other"}})
    assert 400 == code
    assert "Immutable fields changed (-old +new)" in refused["message"]
    assert 200 == api.call("DELETE", f"{path}/changed")[0]


def _update(api: ApiUnderTest, path: str, spec: dict[str, Any]) -> tuple[int, Any]:
    """GET and PUT, again while the object was changed between the two."""
    answers: list[tuple[int, Any]] = []

    def answered() -> bool:
        found = api.call("GET", path)[1]
        found["spec"] |= spec
        answers.append(api.call("PUT", path, found))
        return answers[-1][0] != 409

    wait_until(answered, 10, f"an answer to an update of {path}")
    return answers[-1]


def test_the_program_itself(server: ApiUnderTest, tmp_path: Path) -> None:
    """If kn is on PATH, it is run: the objects that it creates exist, its lists contain them, and
    its exit code is 0.
    """
    kn = Kubectl(server.url, tmp_path, name="kn")

    def run(*arguments: str) -> str:
        done = kn(*arguments)
        assert 0 == done.code, done.both
        return done.out

    run("broker", "create", "by-kn", "--class", "Kafka")
    assert "by-kn" in run("broker", "list")
    assert "by-kn" in run("broker", "describe", "by-kn")
    run(
        "trigger",
        "create",
        "picky",
        "--broker",
        "by-kn",
        "--filter",
        "type=dev.example",
        "--sink",
        "http://sink.example/",
    )
    assert "picky" in run("trigger", "list")
    assert {"type": "dev.example"} == server.call("GET", f"{EVENTING}/triggers/picky")[1]["spec"][
        "filter"
    ]["attributes"]
    run("trigger", "update", "picky", "--filter", "type=dev.other")
    assert {"type": "dev.other"} == server.call("GET", f"{EVENTING}/triggers/picky")[1]["spec"][
        "filter"
    ]["attributes"]
    run("eventtype", "list")
    assert "PingSource" in run("source", "list-types")
    assert "InMemoryChannel" in run("channel", "list-types")
    run("trigger", "delete", "picky")
    run("broker", "delete", "by-kn", "--wait")
    assert 404 == server.call("GET", f"{EVENTING}/brokers/by-kn")[0]
