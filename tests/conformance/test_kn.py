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
SOURCE_KINDS = {
    "pingsources": "PingSource",
    "apiserversources": "ApiServerSource",
    "sinkbindings": "SinkBinding",
    "containersources": "ContainerSource",
}
"""The kinds with commands of their own (`kn source ping`, ...), by the word in the path."""
MESSAGING_KINDS = {"channels": "Channel", "subscriptions": "Subscription"}
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
        # Before the EventTypes, which the controller creates again while their sources exist.
        *(f"{SOURCES}/{plural}" for plural in SOURCE_KINDS),
        f"{EVENTING}/triggers",
        f"{EVENTING}/brokers",
        EVENT_TYPES,
        f"{MESSAGING}/subscriptions",
        f"{MESSAGING}/channels",
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


def _sink_of_a_source(api: ApiUnderTest, name: str = "default") -> dict[str, Any]:
    """`--sink broker:NAME`: kn fetches the object, and refers to what it found."""
    code, made = api.call("POST", f"{EVENTING}/brokers", broker(name))
    assert 201 == code, made
    code, found = api.call("GET", f"{EVENTING}/brokers/{name}")
    assert 200 == code, found
    ref = {
        "kind": found["kind"],
        "namespace": found["metadata"]["namespace"],
        "name": found["metadata"]["name"],
        "apiVersion": found["apiVersion"],
    }
    return {"ref": ref}


def _kind(plural: str) -> tuple[str, str]:
    """apiVersion and kind."""
    if plural in SOURCE_KINDS:
        return "sources.knative.dev/v1", SOURCE_KINDS[plural]
    return "messaging.knative.dev/v1", MESSAGING_KINDS[plural]


def _path(plural: str) -> str:
    """Of the objects of a kind in the namespace."""
    return f"/apis/{_kind(plural)[0]}/namespaces/default/{plural}"


def _created(
    api: ApiUnderTest, plural: str, name: str, spec: dict[str, Any], **metadata: Any
) -> dict[str, Any]:
    """The answer to `kn ... create`, which must be a success without a warning."""
    sent = body(*_kind(plural), name, spec)
    sent["metadata"] |= metadata
    answer = api.request("POST", _path(plural), sent)
    made: dict[str, Any] = answer.json()
    assert (201, None) == (answer.status, answer.headers.get("Warning")), made
    return made


def _described(api: ApiUnderTest, plural: str, name: str) -> dict[str, Any]:
    """What describe shows, once the controller has judged the object: every field that it reads
    has the form of Knative's types.
    """
    found: list[dict[str, Any]] = []

    def judged() -> bool:
        found.append(api.call("GET", f"{_path(plural)}/{name}")[1])
        return bool(found[-1].get("status", {}).get("conditions"))

    wait_until(judged, 10, f"conditions of {name}")
    described = found[-1]
    assert _kind(plural) == (described["apiVersion"], described["kind"])
    if plural in SOURCE_KINDS:
        assert isinstance(described["spec"]["sink"], dict)
    for condition in described["status"]["conditions"]:
        assert condition["status"] in ("True", "False", "Unknown")
        assert condition["type"]
        assert isinstance(condition.get("reason", ""), str)
        assert isinstance(condition.get("message", ""), str)
    assert "Ready" in {condition["type"] for condition in described["status"]["conditions"]}
    return described


def _deleted(api: ApiUnderTest, plural: str, name: str) -> None:
    """`kn ... delete`: DELETE with options in the group of the typed client, and no wait.
    Of a name that does not exist, the Status that kn prints.
    """
    options = {"kind": "DeleteOptions", "apiVersion": _kind(plural)[0]}
    path = f"{_path(plural)}/{name}"
    code, answer = api.call("DELETE", path, options)
    assert 200 == code, answer
    wait_until(lambda: api.call("GET", path)[0] == 404, 10, f"{name} to be deleted")
    code, status = api.call("DELETE", path, options)
    group = _kind(plural)[0].partition("/")[0]
    assert (404, f'{plural}.{group} "{name}" not found') == (code, status["message"])


def _listed(api: ApiUnderTest, plural: str) -> list[str]:
    """The names in `kn ... list`, which are those of `list --all-namespaces`."""
    names = []
    api_version, kind = _kind(plural)
    for path in (_path(plural), f"/apis/{api_version}/{plural}"):
        code, listed = api.call("GET", path)
        assert (200, f"{kind}List") == (code, listed["kind"])
        names.append([each["metadata"]["name"] for each in listed["items"]])
    assert names[0] == names[1]
    return names[0]


def test_source_ping(api: ApiUnderTest) -> None:
    """Create with text and with base64, list, describe, update of schedule and data, delete."""
    sink = _sink_of_a_source(api)
    overrides = {"extensions": {"origin": "kn"}}
    spec = {"sink": sink, "ceOverrides": overrides, "schedule": "* * * * *", "data": "hello"}
    made = _created(api, "pingsources", "text", spec)
    assert spec == {name: made["spec"][name] for name in spec}
    _created(
        api, "pingsources", "bytes", {"sink": sink, "schedule": "@hourly", "dataBase64": "aGVsbG8="}
    )
    _created(api, "pingsources", "silent", {"sink": sink, "schedule": "@daily"})
    assert ["bytes", "silent", "text"] == _listed(api, "pingsources")
    assert overrides == _described(api, "pingsources", "text")["spec"]["ceOverrides"]

    def encode(found: dict[str, Any]) -> None:
        """`update --data ... --encoding base64`: kn removes the text."""
        found["spec"].pop("data")
        found["spec"] |= {"dataBase64": "Ynll", "schedule": "@daily"}

    code, changed = update(api, f"{SOURCES}/pingsources/text", encode)
    assert (200, "@daily", "Ynll", 2) == (
        code,
        changed["spec"]["schedule"],
        changed["spec"]["dataBase64"],
        changed["metadata"]["generation"],
    )
    assert "data" not in changed["spec"]
    _deleted(api, "pingsources", "text")


def test_source_ping_with_a_schedule_that_is_none(api: ApiUnderTest) -> None:
    """kn checks nothing, and prints the message of the Status, which names the field."""
    spec = {"sink": {"uri": "http://sink.example/"}, "schedule": "every minute"}
    sent = body("sources.knative.dev/v1", "PingSource", "never", spec)
    code, status = api.call("POST", f"{SOURCES}/pingsources", sent)
    assert (422, "Status", "Invalid") == (code, status["kind"], status["reason"])
    assert "spec.schedule" in status["message"]


def test_source_apiserver(api: ApiUnderTest) -> None:
    """Create with and without a selector, list, describe, update of resources and mode, delete."""
    sink = _sink_of_a_source(api)
    resources: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Event"},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "selector": {"matchLabels": {"app": "shop"}},
        },
    ]
    spec = {"sink": sink, "resources": resources, "serviceAccountName": "reader"}
    made = _created(api, "apiserversources", "changes", {**spec, "mode": "Reference"})
    assert (resources, "Reference", "reader") == (
        made["spec"]["resources"],
        made["spec"]["mode"],
        made["spec"]["serviceAccountName"],
    )
    assert ["changes"] == _listed(api, "apiserversources")
    found = _described(api, "apiserversources", "changes")
    assert [{}, {"matchLabels": {"app": "shop"}}] == [
        each.get("selector", {}) for each in found["spec"]["resources"]
    ]

    def change(found: dict[str, Any]) -> None:
        found["spec"] |= {"mode": "Resource", "resources": resources[:1]}

    code, changed = update(api, f"{SOURCES}/apiserversources/changes", change)
    assert (200, "Resource", resources[:1]) == (
        code,
        changed["spec"]["mode"],
        changed["spec"]["resources"],
    )
    _deleted(api, "apiserversources", "changes")


def test_source_apiserver_defaults(api: ApiUnderTest) -> None:
    """Without --service-account and --mode, kn sends neither field."""
    spec = {
        "sink": {"uri": "http://sink.example/"},
        "resources": [{"apiVersion": "v1", "kind": "Event"}],
    }
    made = _created(api, "apiserversources", "plain", spec)
    assert ("Reference", "default") == (made["spec"]["mode"], made["spec"]["serviceAccountName"])


def test_source_binding(api: ApiUnderTest) -> None:
    """Create for a name and for labels, list, describe, update, delete. The namespace is in the
    subject.
    """
    sink = _sink_of_a_source(api)
    named = {"kind": "Deployment", "namespace": "default", "name": "shop", "apiVersion": "apps/v1"}
    labelled = {
        "kind": "Job",
        "namespace": "default",
        "apiVersion": "batch/v1",
        "selector": {"matchLabels": {"app": "shop"}},
    }
    made = _created(api, "sinkbindings", "by-name", {"sink": sink, "subject": named})
    assert named == made["spec"]["subject"]
    made = _created(api, "sinkbindings", "by-label", {"sink": sink, "subject": labelled})
    assert labelled == made["spec"]["subject"]
    assert ["by-label", "by-name"] == _listed(api, "sinkbindings")
    assert named == _described(api, "sinkbindings", "by-name")["spec"]["subject"]

    def change(found: dict[str, Any]) -> None:
        found["spec"] |= {
            "subject": {**named, "name": "other"},
            "ceOverrides": {"extensions": {"origin": "kn"}},
        }

    code, changed = update(api, f"{SOURCES}/sinkbindings/by-name", change)
    assert (200, "other", "kn") == (
        code,
        changed["spec"]["subject"]["name"],
        changed["spec"]["ceOverrides"]["extensions"]["origin"],
    )
    _deleted(api, "sinkbindings", "by-name")


def test_source_container(api: ApiUnderTest) -> None:
    """Create, list, describe, update of the image, delete. Go writes a container without a name as
    an empty one, and empty resources.
    """
    sink = _sink_of_a_source(api)
    container = {
        "name": "",
        "image": "docker.io/example/heartbeats",
        "args": ["--period=1"],
        "env": [{"name": "POD_NAME", "value": "heartbeats"}],
        "resources": {},
    }
    template = {"metadata": {"creationTimestamp": None}, "spec": {"containers": [container]}}
    made = _created(api, "containersources", "beats", {"sink": sink, "template": template})
    (stored,) = made["spec"]["template"]["spec"]["containers"]
    assert container == stored
    assert ["beats"] == _listed(api, "containersources")
    (described,) = _described(api, "containersources", "beats")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["env"] == described["env"]

    def change(found: dict[str, Any]) -> None:
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/example/other"
        # As Go writes the template that it has read.
        found["spec"]["template"]["metadata"] = {"creationTimestamp": None}

    code, changed = update(api, f"{SOURCES}/containersources/beats", change)
    assert (200, "docker.io/example/other") == (
        code,
        changed["spec"]["template"]["spec"]["containers"][0]["image"],
    )
    _deleted(api, "containersources", "beats")


def test_an_update_of_a_source_that_does_not_exist(api: ApiUnderTest) -> None:
    """The GET of update, describe and delete is answered with the Status that kn prints."""
    for plural in SOURCE_KINDS:
        code, status = api.call("GET", f"{SOURCES}/{plural}/absent")
        assert (404, "NotFound", f'{plural}.sources.knative.dev "absent" not found') == (
            code,
            status["reason"],
            status["message"],
        )


def test_source_list_reads_sink_and_readiness(api: ApiUnderTest) -> None:
    """The columns of source list: `spec.sink.ref`, and the Ready condition, of any kind; and with
    --all-namespaces.
    """
    sink = _sink_of_a_source(api)
    _created(api, "pingsources", "ticks", {"sink": sink, "schedule": "@daily"})
    _described(api, "pingsources", "ticks")
    (found,) = api.call("GET", "/apis/sources.knative.dev/v1/pingsources")[1]["items"]
    assert ("PingSource", "default", "ticks", "default") == (
        found["kind"],
        found["metadata"]["namespace"],
        found["metadata"]["name"],
        found["spec"]["sink"]["ref"]["name"],
    )


def test_channel(api: ApiUnderTest) -> None:
    """Create with a type and without, list, list-types, describe and delete. Describe reads
    `spec.channelTemplate` of every Channel, and ends without it.
    """
    template = {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel"}
    _created(api, "channels", "typed", {"channelTemplate": template})
    _created(api, "channels", "plain", {})
    assert ["plain", "typed"] == sorted(_listed(api, "channels"))
    assert template == _described(api, "channels", "typed")["spec"]["channelTemplate"]
    default = {"apiVersion": "messaging.knative.dev/v1beta1", "kind": "KafkaChannel"}
    assert default == _described(api, "channels", "plain")["spec"]["channelTemplate"]
    types = api.call("GET", f"{DEFINITIONS}?labelSelector=messaging.knative.dev/subscribable=true")[
        1
    ]["items"]
    assert "KafkaChannel" in {each["spec"]["names"]["kind"] for each in types}
    for name in ("typed", "plain"):
        _deleted(api, "channels", name)


def test_subscription(api: ApiUnderTest) -> None:
    """Create with a reference to a channel, which is not fetched, and to a sink, which is; list and
    describe; update by GET and PUT of sink, reply and dead letter sink, but not of the channel;
    delete.
    """
    channel = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "c"}
    sink = _sink_of_a_source(api)
    _created(api, "subscriptions", "s", {"channel": channel, "subscriber": sink})
    assert ["s"] == _listed(api, "subscriptions")
    spec = _described(api, "subscriptions", "s")["spec"]
    assert (channel, sink) == (spec["channel"], spec["subscriber"])
    targets = {
        "subscriber": {"uri": "http://other.example/"},
        "reply": {"uri": "http://reply.example/"},
        "delivery": {"deadLetterSink": {"uri": "http://dead.example/"}},
    }
    path = f"{MESSAGING}/subscriptions/s"
    code, changed = _update(api, path, targets)
    assert (200, 2) == (code, changed["metadata"]["generation"])
    assert {"channel": channel, **targets} == _described(api, "subscriptions", "s")["spec"]
    code, refused = _update(api, path, {"channel": {**channel, "name": "other"}})
    assert 400 == code
    assert "Immutable fields changed (-old +new)" in refused["message"]
    _deleted(api, "subscriptions", "s")


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
    for kind, options in {
        "ping": ("--schedule", "* * * * *", "--data", "hello"),
        "apiserver": ("--resource", "Event:v1", "--mode", "Resource"),
        "binding": ("--subject", "Deployment:apps/v1:shop"),
        "container": ("--image", "docker.io/example/heartbeats"),
    }.items():
        run("source", kind, "create", f"{kind}-1", *options, "--sink", "broker:by-kn")
        assert f"{kind}-1" in run("source", kind, "list")
        assert f"{kind}-1" in run("source", "list")
        assert "by-kn" in run("source", kind, "describe", f"{kind}-1")
        run("source", kind, "update", f"{kind}-1", "--sink", "http://sink.example/")
        assert "http://sink.example/" in run("source", kind, "describe", f"{kind}-1")
        run("source", kind, "delete", f"{kind}-1")
    run("channel", "create", "pipe")
    run("channel", "create", "typed", "--type", "messaging.knative.dev:v1:InMemoryChannel")
    assert {"pipe", "typed"} <= set(run("channel", "list").split())
    assert "KafkaChannel" in run("channel", "describe", "pipe")
    assert "InMemoryChannel" in run("channel", "describe", "typed")
    run("subscription", "create", "reader", "--channel", "pipe", "--sink", "broker:by-kn")
    assert "reader" in run("subscription", "list")
    assert "by-kn" in run("subscription", "describe", "reader")
    run("subscription", "update", "reader", "--sink", "http://sink.example/")
    assert "http://sink.example/" in run("subscription", "describe", "reader")
    run("subscription", "delete", "reader")
    for name in ("pipe", "typed"):
        run("channel", "delete", name)
    run("trigger", "delete", "picky")
    run("broker", "delete", "by-kn", "--wait")
    assert 404 == server.call("GET", f"{EVENTING}/brokers/by-kn")[0]
