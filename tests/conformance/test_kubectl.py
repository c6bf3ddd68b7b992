"""Unmodified kubectl with the controller's own API: every command that people use on Brokers and
Triggers.

The server is a whole controller over memory adapters; kubectl runs as a process.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from headrace.adapters.manifests import read_manifests
from headrace.runtime.sockets import VIEWER_PORT
from headrace_cli import quickstart
from headrace_cli.apply import apply_manifest
from headrace_cli.client import ApiClient
from headrace_cli.main import application
from headrace_controller.settings import ControllerSettings
from tests.support.certificates import Authority
from tests.support.kubectl import Kubectl
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import running_api

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart" / "quickstart.yaml"
BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec: {}
"""
TRIGGER = """
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: orders}
spec:
  broker: default
  subscriber: {uri: "http://sink.example/"}
"""
BOTH = f"{BROKER}---{TRIGGER}"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: sink}
spec:
  type: ExternalName
  externalName: sink.example
  ports:
    - {name: http, port: 80}
    - {name: https, port: 443}
    - {name: metrics, port: 9090}
"""


pytestmark = pytest.mark.clause("kubectl")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """One controller for the module."""
    with running_api() as api:
        yield Kubectl(api.url, tmp_path_factory.mktemp("kubectl"))


@pytest.fixture
def kubectl(server: Kubectl) -> Iterator[Kubectl]:
    """The program, with an empty namespace."""
    yield server
    server.ok("delete", "triggers,brokers,configmaps,secrets,services", "--all", "--wait=true")


def test_version_and_discovery(kubectl: Kubectl) -> None:
    """The server has a version; resources have short names, categories and a preferred version."""
    assert "Server Version: v1." in kubectl.ok("version")
    resources = {
        line.split()[0]: line.split()
        for line in kubectl.ok("api-resources", "--no-headers").splitlines()
    }
    assert ["brokers", "eventing.knative.dev/v1", "true", "Broker"] == resources["brokers"]
    assert "imc" == resources["inmemorychannels"][1]
    assert "eventing.knative.dev/v1beta3" in resources["eventtypes"]
    versions = kubectl.ok("api-versions").splitlines()
    assert {"v1", "eventing.knative.dev/v1", "eventing.knative.dev/v1beta2"} <= set(versions)
    assert "triggers" in kubectl.ok("api-resources", "--categories", "eventing", "-o", "name")


def test_apply_creates_updates_and_leaves_alone(kubectl: Kubectl) -> None:
    """created, unchanged, configured; the second apply writes nothing."""
    assert ["created", "created"] == [
        line.split()[-1] for line in kubectl.ok("apply", "-f", "-", text=BOTH).splitlines()
    ]
    before = kubectl.get("trigger", "orders")["metadata"]["managedFields"]
    assert "unchanged" in kubectl.ok("apply", "-f", "-", text=TRIGGER)
    assert before == kubectl.get("trigger", "orders")["metadata"]["managedFields"]
    assert "configured" in kubectl.ok(
        "apply", "-f", "-", text=TRIGGER.replace("sink.example", "other.example")
    )
    assert "http://other.example/" == kubectl.get("trigger", "orders")["spec"]["subscriber"]["uri"]


def test_apply_changes_one_port_of_a_service(kubectl: Kubectl) -> None:
    """Of three ports one changes, one is removed, and the one that is not in the patch stays."""
    kubectl.ok("apply", "-f", "-", text=SERVICE)
    changed = SERVICE.replace("port: 80", "port: 80, targetPort: 8080").replace(
        "    - {name: https, port: 443}\n", ""
    )
    assert "configured" in kubectl.ok("apply", "-f", "-", text=changed)
    ports = kubectl.get("service", "sink")["spec"]["ports"]
    assert [("http", 80, 8080), ("metrics", 9090, None)] == [
        (each["name"], each["port"], each.get("targetPort")) for each in ports
    ]


def test_finalizers_are_merged(kubectl: Kubectl) -> None:
    """`patch` and `edit` add to the finalizers of a core kind; only a deleted one is removed."""
    kubectl.ok("create", "configmap", "held")
    kubectl.ok("patch", "configmap", "held", "-p", '{"metadata": {"finalizers": ["x.dev/a"]}}')
    kubectl.ok("patch", "configmap", "held", "-p", '{"metadata": {"finalizers": ["x.dev/b"]}}')
    assert ["x.dev/a", "x.dev/b"] == kubectl.get("configmap", "held")["metadata"]["finalizers"]
    kubectl.ok(
        "patch",
        "configmap",
        "held",
        "-p",
        '{"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.dev/a"]}}',
    )
    assert ["x.dev/b"] == kubectl.get("configmap", "held")["metadata"]["finalizers"]
    kubectl.ok("patch", "configmap", "held", "-p", '{"metadata": {"finalizers": null}}')


def test_server_side_apply_conflicts_and_forces(kubectl: Kubectl) -> None:
    """Two managers of one field conflict, and the message names the field. --force-conflicts takes
    it over. A field that is left out is removed.
    """
    kubectl.ok("apply", "--server-side", "-f", "-", text=BOTH)
    other = TRIGGER.replace("sink.example", "other.example")
    error = kubectl.refused(
        "apply", "--server-side", "--field-manager=other", "-f", "-", text=other
    )
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.subscriber.uri' in error
    kubectl.ok(
        "apply",
        "--server-side",
        "--field-manager=other",
        "--force-conflicts",
        "-f",
        "-",
        text=other,
    )
    assert "http://other.example/" == kubectl.get("trigger", "orders")["spec"]["subscriber"]["uri"]
    kubectl.ok(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        text=TRIGGER + "  delivery: {retry: 3}\n",
    )
    assert 3 == kubectl.get("trigger", "orders")["spec"]["delivery"]["retry"]
    kubectl.ok("apply", "--server-side", "-f", "-", text=TRIGGER)
    assert "delivery" not in kubectl.get("trigger", "orders")["spec"]


def test_moving_from_client_side_to_server_side_apply(kubectl: Kubectl) -> None:
    """Fields of client-side apply can be taken over without force; kubectl's apply manages them
    afterwards.
    """
    kubectl.ok("apply", "-f", "-", text=BOTH)
    kubectl.ok(
        "apply", "--server-side", "-f", "-", text=TRIGGER.replace("sink.example", "other.example")
    )
    owners = [
        (each["manager"], each["operation"])
        for each in kubectl.get("trigger", "orders")["metadata"]["managedFields"]
    ]
    assert ("kubectl", "Apply") in owners
    assert ("kubectl-client-side-apply", "Update") not in owners


def test_apply_continues_what_headrace_up_has_applied(kubectl: Kubectl, tmp_path: Path) -> None:
    """The same file changes nothing, without a warning, and a field that is removed from it is
    removed.
    """
    wanted = quickstart.manifests([QUICKSTART], viewer_port=VIEWER_PORT)
    quickstart.apply(ApiClient(kubectl.server), wanted)
    done = kubectl("apply", "-f", str(QUICKSTART))
    assert (0, "") == (done.code, done.err)
    assert ["unchanged"] * 3 == [line.split()[-1] for line in done.lines]
    documents = list(yaml.safe_load_all(QUICKSTART.read_text()))
    assert "filters" in kubectl.get("trigger", "orders")["spec"]
    del documents[1]["spec"]["filters"]
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump_all(documents))
    done = kubectl("apply", "-f", str(changed))
    assert (0, "") == (done.code, done.err)
    assert ["unchanged", "configured", "unchanged"] == [line.split()[-1] for line in done.lines]
    assert "filters" not in kubectl.get("trigger", "orders")["spec"]
    # As when `headrace up -f` is started again: the file counts, and kubectl continues from it.
    quickstart.apply(ApiClient(kubectl.server), wanted)
    assert "filters" in kubectl.get("trigger", "orders")["spec"]
    assert "configured" in kubectl.ok("apply", "-f", str(changed))
    assert "filters" not in kubectl.get("trigger", "orders")["spec"]


def test_the_annotation_is_the_text_that_kubectl_writes(kubectl: Kubectl) -> None:
    """So an apply of the same file writes nothing: with signs that its JSON escapes, annotations of
    its own, and in another namespace.
    """
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "signs", "annotations": {"a.dev/b": "1"}, "labels": {"x": "label"}},
        "data": {"z": "a < b && b > a", "a": 'é \u2028 \u2029 \U0001f600 " \\ \t'},
        "immutable": False,
    }
    service = yaml.safe_load(SERVICE)
    kubectl.ok("create", "namespace", "signs")
    text = yaml.safe_dump_all([document, service, yaml.safe_load(TRIGGER)])
    client = ApiClient(kubectl.server)
    for each in read_manifests(text.encode(), "a file"):
        apply_manifest(client, each, "signs")
    done = kubectl("apply", "-n", "signs", "-f", "-", text=text)
    assert (0, "") == (done.code, done.err)
    assert ["unchanged"] * 3 == [line.split()[-1] for line in done.lines]
    kubectl.ok("delete", "namespace", "signs")


def test_headrace_apply_and_kubectl_apply_in_turn(kubectl: Kubectl) -> None:
    """Each removes what the other has set and the file no longer has; neither is refused or
    warns.
    """

    def headrace(text: str) -> None:
        command = ["apply", "-f", "-", "--server", kubectl.server]
        done = CliRunner().invoke(application(command), command, input=text)
        assert (0, "") == (done.exit_code, done.stderr)

    def delivery() -> object:
        return kubectl.get("trigger", "orders")["spec"].get("delivery")

    retried = TRIGGER + "  delivery: {retry: 3}\n"
    kubectl.ok("apply", "-f", "-", text=BROKER)
    headrace(retried)
    assert {"retry": 3} == delivery()
    done = kubectl("apply", "-f", "-", text=TRIGGER)
    assert (0, "") == (done.code, done.err)
    assert delivery() is None
    headrace(retried)
    headrace(retried)
    kubectl.ok("apply", "-f", "-", text=TRIGGER)
    assert delivery() is None
    headrace(TRIGGER + "  delivery: {timeout: PT5S}\n")
    headrace(TRIGGER)
    assert delivery() is None
    kubectl.ok("apply", "--server-side", "-f", "-", text=retried)
    headrace(TRIGGER)
    assert {"retry": 3} == delivery(), "it belongs to kubectl"
    kubectl.ok("apply", "-f", "-", text=TRIGGER)
    assert delivery() is None


def test_the_annotation_of_apply_is_no_copy_of_a_secret(kubectl: Kubectl) -> None:
    """And an object that kubectl has created without it does not get it."""
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: letmein}\n"
    client = ApiClient(kubectl.server)
    kubectl.ok("create", "-f", "-", text=TRIGGER)
    for each in read_manifests(f"{secret}---{TRIGGER}".encode(), "a file"):
        apply_manifest(client, each, "default", force=True)
    for kind, name in (("secret", "s"), ("trigger", "orders")):
        annotations = kubectl.get(kind, name)["metadata"].get("annotations", {})
        assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations


def test_get_in_every_form(kubectl: Kubectl) -> None:
    """Tables with Knative's columns (and DELIVERY at the end), wide ones, names, JSON, YAML,
    JSONPath, custom columns, categories and short names.
    """
    kubectl.ok("apply", "-f", "-", text=BOTH)
    kubectl.ok("wait", "--for=condition=Ready", "trigger/orders", "broker/default", "--timeout=30s")
    head, row = kubectl.ok("get", "triggers").splitlines()
    assert ["NAME", "BROKER", "SUBSCRIBER_URI", "AGE", "READY", "REASON", "DELIVERY"] == (
        head.split()
    )
    assert ["orders", "default", "http://sink.example/"] == row.split()[:3]
    assert "True" == row.split()[4]
    assert "CLASS" in kubectl.ok("get", "broker", "default", "-o", "wide")
    assert "trigger.eventing.knative.dev/orders\n" == kubectl.ok("get", "trigger", "-o", "name")
    assert "default" == kubectl.ok("get", "trigger", "orders", "-o", "jsonpath={.spec.broker}")
    assert ["N", "orders"] == kubectl.ok(
        "get", "trigger", "-o", "custom-columns=N:.metadata.name"
    ).split()
    assert "List" == yaml.safe_load(kubectl.ok("get", "triggers", "-o", "json"))["kind"]
    everything = kubectl.ok("get", "eventing,cm", "-A")
    assert "NAMESPACE" in everything
    assert "broker.eventing.knative.dev/default" in everything
    assert "orders" in kubectl.ok("get", "triggers.v1.eventing.knative.dev", "--no-headers")


def test_selectors(kubectl: Kubectl) -> None:
    """By label, with the label that Knative sets on Triggers; by name; not by unknown fields."""
    kubectl.ok(
        "apply",
        "-f",
        "-",
        text=BOTH
        + "---"
        + TRIGGER.replace("orders", "other").replace("broker: default", "broker: second"),
    )
    assert "trigger.eventing.knative.dev/orders\n" == kubectl.ok(
        "get", "trigger", "-l", "eventing.knative.dev/broker=default", "-o", "name"
    )
    selected = kubectl.ok(
        "get", "trigger", "-l", "eventing.knative.dev/broker in (second,third)", "-o", "name"
    )
    assert "trigger.eventing.knative.dev/other\n" == selected
    assert "trigger.eventing.knative.dev/orders\n" == kubectl.ok(
        "get", "trigger", "--field-selector=metadata.name=orders", "-o", "name"
    )
    assert "field label not supported: spec.nothing" in kubectl.refused(
        "get", "trigger", "--field-selector=spec.nothing=x"
    )


def test_get_in_pages(kubectl: Kubectl) -> None:
    """Pages of one object each contain all of them."""
    kubectl.ok(
        "apply",
        "-f",
        "-",
        text="---".join(BROKER.replace("default", f"b{number}") for number in range(5)),
    )
    names = kubectl.ok("get", "brokers", "--chunk-size=2", "-o", "name").splitlines()
    assert [f"broker.eventing.knative.dev/b{number}" for number in range(5)] == names


def test_watch_shows_changes(kubectl: Kubectl) -> None:
    """get -w prints the present objects, then each change when it happens."""
    kubectl.ok("apply", "-f", "-", text=BROKER)
    with kubectl.running("get", "brokers", "-w", "-o", "name") as watching:
        assert watching.stdout is not None
        assert "broker.eventing.knative.dev/default\n" == watching.stdout.readline()
        kubectl.ok("label", "broker", "default", "seen=yes")
        assert "broker.eventing.knative.dev/default\n" == watching.stdout.readline()
        kubectl.ok("apply", "-f", "-", text=BROKER.replace("default", "second"))
        while "second" not in (line := watching.stdout.readline()):
            assert line, "the watch continues"


def test_watch_of_one_object_as_table(kubectl: Kubectl) -> None:
    """The columns once, then a row for every change."""
    kubectl.ok("apply", "-f", "-", text=BROKER)
    with kubectl.running("get", "broker", "default", "--watch") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("NAME")
        assert watching.stdout.readline().startswith("default")
        kubectl.ok("annotate", "broker", "default", "seen=yes")
        assert watching.stdout.readline().startswith("default")


def test_describe_shows_status_and_events(kubectl: Kubectl) -> None:
    """Spec, conditions and Events."""
    kubectl.ok("apply", "-f", "-", text=BOTH)
    kubectl.ok("wait", "--for=condition=Ready", "trigger/orders", "--timeout=30s")
    wait_until(
        lambda: "TriggerReady" in kubectl.ok("describe", "trigger", "orders"),
        10,
        "the event to be shown",
    )
    description = kubectl.ok("describe", "trigger", "orders")
    for expected in (
        "Subscriber Uri:",
        "DeadLetterSinkNotConfigured",
        "Events:",
        "headrace-controller",
        "is ready",
    ):
        assert expected in description
    assert "TriggerReady" in kubectl.ok("events", "--for", "trigger/orders")
    assert "trigger/orders" in kubectl.ok("get", "events")


def test_edit_is_a_patch(kubectl: Kubectl, tmp_path: Path) -> None:
    """The editor's change is stored; a rejected change is reported."""
    kubectl.ok("apply", "-f", "-", text=BOTH)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/sink.example/edited.example/" "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl.ok("edit", "trigger", "orders", env={"KUBE_EDITOR": str(editor)})
    assert "http://edited.example/" == kubectl.get("trigger", "orders")["spec"]["subscriber"]["uri"]


def test_diff_shows_what_apply_would_change(kubectl: Kubectl) -> None:
    """0 without a difference, 1 with one; nothing is stored."""
    kubectl.ok("apply", "-f", "-", text=BOTH)
    assert 0 == kubectl("diff", "-f", "-", text=BOTH).code
    found = kubectl("diff", "-f", "-", text=TRIGGER.replace("sink.example", "other.example"))
    assert (1, True) == (found.code, "+    uri: http://other.example/" in found.out)
    assert "http://sink.example/" == kubectl.get("trigger", "orders")["spec"]["subscriber"]["uri"]


def test_explain_reads_the_schemas(kubectl: Kubectl) -> None:
    """Fields with types and descriptions, one level or all."""
    fields = kubectl.ok("explain", "trigger.spec.delivery")
    assert "backoffPolicy" in fields
    assert "enum: linear, exponential" in fields
    assert "deadLetterSink" in kubectl.ok("explain", "broker", "--recursive")
    assert "attributes" in kubectl.ok(
        "explain", "eventtype.spec", "--api-version=eventing.knative.dev/v1beta3"
    )


def test_wait_for_conditions_and_deletion(kubectl: Kubectl) -> None:
    """A Trigger becomes Ready; one without its Broker times out; a deletion is seen."""
    kubectl.ok("apply", "-f", "-", text=TRIGGER)
    assert "timed out" in kubectl.refused(
        "wait", "--for=condition=Ready", "trigger/orders", "--timeout=1s"
    )
    kubectl.ok("apply", "-f", "-", text=BROKER)
    kubectl.ok("wait", "--for=condition=Ready", "trigger/orders", "--timeout=30s")
    kubectl.ok(
        "wait",
        "--for=jsonpath={.status.subscriberUri}=http://sink.example/",
        "trigger/orders",
        "--timeout=30s",
    )
    kubectl.ok("delete", "trigger", "orders", "--wait=false")
    kubectl.ok("wait", "--for=delete", "trigger/orders", "--timeout=30s")


def test_patch_of_every_type(kubectl: Kubectl) -> None:
    """Merge, JSON and kubectl's default. Immutable fields are rejected with Knative's message."""
    kubectl.ok("apply", "-f", "-", text=BOTH)
    kubectl.ok(
        "patch", "trigger", "orders", "--type=merge", "-p", '{"spec":{"delivery":{"retry":3}}}'
    )
    kubectl.ok(
        "patch",
        "trigger",
        "orders",
        "--type=json",
        "-p",
        '[{"op":"replace","path":"/spec/delivery/retry","value":4}]',
    )
    assert 4 == kubectl.get("trigger", "orders")["spec"]["delivery"]["retry"]
    kubectl.ok("patch", "trigger", "orders", "-p", '{"spec":{"delivery":{"retry":5}}}')
    assert 5 == kubectl.get("trigger", "orders")["spec"]["delivery"]["retry"]
    error = kubectl.refused(
        "patch", "trigger", "orders", "--type=merge", "-p", '{"spec":{"broker":"x"}}'
    )
    assert "Immutable fields changed (-old +new): broker, spec" in error
    error = kubectl.refused(
        "patch",
        "trigger",
        "orders",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/nothing"}]',
    )
    assert "nothing" in error


def test_label_and_annotate(kubectl: Kubectl) -> None:
    """Set, shown as a column, removed."""
    kubectl.ok("apply", "-f", "-", text=BROKER)
    kubectl.ok("label", "broker", "default", "team=shop")
    assert "shop" in kubectl.ok("get", "broker", "default", "-L", "team")
    kubectl.ok("annotate", "broker", "default", "note=x")
    kubectl.ok("label", "broker", "default", "team-")
    metadata = kubectl.get("broker", "default")["metadata"]
    assert ("x", None) == (
        metadata["annotations"]["note"],
        (metadata.get("labels") or {}).get("team"),
    )


def test_create_core_kinds(kubectl: Kubectl) -> None:
    """kubectl create sends protobuf; the objects are the same as from JSON. Of Secrets only counts
    are shown.
    """
    kubectl.ok("create", "namespace", "shop")
    kubectl.ok("create", "configmap", "m", "--from-literal=a=b", "-n", "shop")
    kubectl.ok("create", "secret", "generic", "s", "--from-literal=password=hunter2", "-n", "shop")
    kubectl.ok("create", "serviceaccount", "sa", "-n", "shop")
    kubectl.ok(
        "create", "service", "externalname", "sink", "--external-name=sink.example", "-n", "shop"
    )
    assert {"a": "b"} == kubectl.get("configmap", "m", "-n", "shop")["data"]
    assert "aHVudGVyMg==" == kubectl.get("secret", "s", "-n", "shop")["data"]["password"]
    assert ["NAME", "TYPE", "DATA", "AGE"] == kubectl.ok(
        "get", "secrets", "-n", "shop"
    ).splitlines()[0].split()
    assert "sink.example" in kubectl.ok("get", "services", "-n", "shop")
    assert 'namespaces "nowhere" not found' in kubectl.refused(
        "create", "configmap", "m", "-n", "nowhere"
    )
    kubectl.ok("delete", "namespace", "shop")
    assert 'namespaces "shop" not found' in kubectl.refused("get", "namespace", "shop")


def test_create_replace_and_stale_versions(kubectl: Kubectl) -> None:
    """A second create is AlreadyExists with the name; replace stores; an outdated version
    conflicts.
    """
    kubectl.ok("create", "-f", "-", text=BROKER)
    assert 'brokers.eventing.knative.dev "default" already exists' in kubectl.refused(
        "create", "-f", "-", text=BROKER
    )
    stale = kubectl.ok("get", "broker", "default", "-o", "yaml")
    kubectl.ok("replace", "-f", "-", text=stale)
    kubectl.ok("label", "broker", "default", "x=y")
    assert "the object has been modified" in kubectl.refused("replace", "-f", "-", text=stale)


def test_generate_name(kubectl: Kubectl) -> None:
    """create with generateName generates a name."""
    text = BROKER.replace("name: default", "generateName: made-")
    name = kubectl.ok("create", "-f", "-", "-o", "name", text=text).strip()
    assert name.startswith("broker.eventing.knative.dev/made-")


def test_dry_run_stores_nothing(kubectl: Kubectl) -> None:
    """--dry-run=server does everything but the write."""
    assert "created (server dry run)" in kubectl.ok(
        "apply", "-f", "-", "--dry-run=server", text=BROKER
    )
    assert "NotFound" in kubectl.refused("get", "broker", "default")
    error = kubectl.refused(
        "create",
        "-f",
        "-",
        "--dry-run=server",
        text=TRIGGER.replace("broker: default", "broker: ''"),
    )
    assert "spec.broker" in error
    kubectl.ok("apply", "-f", "-", text=BROKER)
    kubectl.ok("delete", "broker", "default", "--dry-run=server")
    kubectl.ok("get", "broker", "default")


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("eventing.knative.dev/v1", "Triger"), ("nosuch.dev/v1", "Thing"), ("v1", "Pod")],
)
def test_the_error_for_an_unknown_kind(kubectl: Kubectl, api_version: str, kind: str) -> None:
    """As with a cluster: no advice to turn validation off."""
    error = kubectl.refused(
        "apply", "-f", "-", text=f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}"
    )
    assert (
        f'no matches for kind "{kind}" in version "{api_version}"\nensure CRDs are installed first'
        in error
    )
    assert "validat" not in error


def test_unknown_fields_by_strictness(kubectl: Kubectl) -> None:
    """Rejected by default, a warning with --validate=warn, dropped with --validate=ignore."""
    wrong = BROKER.replace("spec: {}", "spec: {deliverie: {}}")
    assert 'unknown field "spec.deliverie"' in kubectl.refused("apply", "-f", "-", text=wrong)
    warned = kubectl("apply", "-f", "-", "--validate=warn", text=wrong)
    assert (0, True) == (warned.code, 'Warning: unknown field "spec.deliverie"' in warned.err)
    assert "deliverie" not in kubectl.get("broker", "default")["spec"]
    assert 'unknown field "spec.deliverie"' not in kubectl.ok(
        "apply", "-f", "-", "--validate=ignore", text=wrong
    )


OLD_SOURCE = """
apiVersion: sources.eventing.knative.dev/v1alpha1
kind: CronJobSource
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  sink: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}
"""
OLD_WARNING = "Warning: sources.eventing.knative.dev/v1alpha1 CronJobSource is deprecated"


@pytest.mark.parametrize("category", ["sources", "knative", "eventing"])
def test_a_category_warns_of_the_old_kinds_that_are_used(kubectl: Kubectl, category: str) -> None:
    """kubectl lists each kind of a category, those of Knative 0.5 too: a warning is for who has
    objects of such a kind, and the objects are shown.
    """
    without = kubectl("get", category)
    assert (0, False) == (without.code, "Warning" in without.err), without.err
    assert OLD_WARNING in kubectl("apply", "-f", "-", text=OLD_SOURCE).err
    listed = kubectl("get", category)
    assert "cronjobsource.sources.eventing.knative.dev/nightly" in listed.out
    assert [True] == [line.startswith(OLD_WARNING) for line in listed.err.splitlines()]
    deleted = kubectl("delete", "cronjobsources", "nightly")
    assert (0, True) == (deleted.code, OLD_WARNING in deleted.err)


def test_status_subresource(kubectl: Kubectl) -> None:
    """Read and written separately from the rest."""
    kubectl.ok("apply", "-f", "-", text=TRIGGER)
    kubectl.ok(
        "patch",
        "trigger",
        "orders",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status":{"annotations":{"a":"b"}},"spec":{"broker":"x"}}',
    )
    assert "default" == kubectl.ok(
        "get", "trigger", "orders", "--subresource=status", "-o", "jsonpath={.spec.broker}"
    )


def test_scale(kubectl: Kubectl) -> None:
    """kubectl scale sets the replicas of a kind with the subresource."""
    source = """
apiVersion: sources.knative.dev/v1
kind: KafkaSource
metadata: {name: k}
spec:
  bootstrapServers: ["k:9092"]
  topics: ["t"]
  sink: {uri: "http://sink.example/"}
"""
    kubectl.ok("apply", "-f", "-", text=source)
    assert "scaled" in kubectl.ok("scale", "kafkasource/k", "--replicas=3")
    assert 3 == kubectl.get("kafkasource", "k")["spec"]["consumers"]
    kubectl.ok("delete", "kafkasource", "k")


def test_delete_and_cascades(kubectl: Kubectl) -> None:
    """kubectl waits for the deletion. Foreground deletes dependents first, orphan leaves them,
    background deletes them afterwards.
    """
    for cascade, left in (("background", False), ("foreground", False), ("orphan", True)):
        kubectl.ok("create", "configmap", "owner")
        uid = kubectl.ok("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
        owner = (
            f"{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}, blockOwnerDeletion:"
            " true}"
        )
        kubectl.ok(
            "create",
            "-f",
            "-",
            text=(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned, ownerReferences:"
                f" [{owner}]}}\n"
            ),
        )
        kubectl.ok("delete", "configmap", "owner", f"--cascade={cascade}")
        if left:
            assert "ownerReferences" not in kubectl.get("configmap", "owned")["metadata"]
            kubectl.ok("delete", "configmap", "owned")
        else:
            wait_until(
                lambda: kubectl("get", "configmap", "owned").code,
                20,
                f"{cascade}: the dependent to go",
            )


def test_initial_namespaces(kubectl: Kubectl) -> None:
    """Every installation has them, and default cannot be deleted."""
    names = kubectl.ok("get", "namespaces", "-o", "name").split()
    assert {
        f"namespace/{name}"
        for name in ("default", "knative-eventing", "kube-system", "kube-public")
    } <= set(names)
    assert "Active" in kubectl.ok("get", "ns", "default")
    assert "forbidden" in kubectl.refused("delete", "namespace", "default")


def test_auth(kubectl: Kubectl) -> None:
    """The user may do everything, and whoami shows the user."""
    assert "yes\n" == kubectl.ok("auth", "can-i", "create", "brokers")
    assert "headrace" in kubectl.ok("auth", "whoami")
    assert "[*]" in kubectl.ok("auth", "can-i", "--list")


def test_a_custom_kind(kubectl: Kubectl) -> None:
    """A CRD is established and served at once, validates, and its objects are deleted with it."""
    definition = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.dev}
spec:
  group: example.dev
  scope: Namespaced
  names: {plural: lamps, kind: Lamp, shortNames: [lp]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [watts]
              properties: {watts: {type: integer, maximum: 100}}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
    lamp = "apiVersion: example.dev/v1\nkind: Lamp\nmetadata: {name: l}\nspec: {watts: 40}\n"
    kubectl.ok("apply", "-f", "-", text=definition)
    kubectl.ok("wait", "--for=condition=Established", "crd/lamps.example.dev", "--timeout=20s")
    kubectl.ok("apply", "-f", "-", text=lamp)
    assert "l" == kubectl.ok("get", "lp", "--no-headers").split()[0]
    error = kubectl.refused("apply", "-f", "-", text=lamp.replace("40", "400"))
    assert (
        "spec.watts: Invalid value: 400: spec.watts in body should be less than or equal to 100"
        in error
    )
    kubectl.ok("delete", "crd", "lamps.example.dev")
    assert kubectl.refused("get", "lamps.example.dev")


def test_builtin_definitions_are_listed_and_protected(kubectl: Kubectl) -> None:
    """kn looks for them. Applying them again succeeds with a warning; deleting them is rejected."""
    sources = kubectl.ok("get", "crd", "-l", "duck.knative.dev/source=true", "-o", "name")
    assert (
        "customresourcedefinition.apiextensions.k8s.io/pingsources.sources.knative.dev" in sources
    )
    applied = kubectl("apply", "--server-side", "-f", "charts/headrace/files/crds/trigger.yaml")
    assert (0, True) == (applied.code, "comes with Headrace and is left as it is" in applied.err)
    assert "forbidden" in kubectl.refused("delete", "crd", "triggers.eventing.knative.dev")


def test_versions_of_a_kind(kubectl: Kubectl) -> None:
    """An object that was created in one version is read in another."""
    text = (
        "apiVersion: eventing.knative.dev/v1beta2\nkind: EventType\nmetadata: {name: e}\nspec:"
        " {type: t.x, source: /s}\n"
    )
    kubectl.ok("apply", "-f", "-", text=text)
    assert "t.x" == kubectl.get("eventtypes.v1beta2.eventing.knative.dev", "e")["spec"]["type"]
    attributes = {
        each["name"]: each.get("value")
        for each in kubectl.get("eventtypes.v1beta3.eventing.knative.dev", "e")["spec"][
            "attributes"
        ]
    }
    assert ("t.x", "/s") == (attributes["type"], attributes["source"])
    kubectl.ok("delete", "eventtype", "e")


def test_errors_for_unknown_kinds_and_names(kubectl: Kubectl) -> None:
    """They name the kind or the object."""
    assert "the server doesn't have a resource type" in kubectl.refused("get", "nothings")
    assert 'brokers.eventing.knative.dev "none" not found' in kubectl.refused(
        "get", "broker", "none"
    )


def test_the_kubeconfig_of_the_controller_works_over_tls(tmp_path: Path) -> None:
    """kubectl takes the server's certificate and the token from it, and watches through TLS."""
    own = Authority(tmp_path / "ca").sign("api")
    (tmp_path / "tokens").write_text("correct-horse-battery,ada,1\n")
    settings = ControllerSettings(
        port=0,
        token_file=tmp_path / "tokens",
        tls_cert_file=own.certificate,
        tls_key_file=own.key,
        kubeconfig_out=tmp_path / "kubeconfig",
    )
    with running_api(settings) as api:
        kubectl = Kubectl(api.url, tmp_path, given=tmp_path / "kubeconfig")
        assert "ada" in kubectl.ok("auth", "whoami")
        kubectl.ok("apply", "-f", "-", text=BROKER)
        kubectl.ok("wait", "--for=condition=Ready", "broker/default", "--timeout=30s")
        (tmp_path / "other").write_text(
            (tmp_path / "kubeconfig").read_text().replace("correct-horse", "wrong-horse")
        )
        wrong = Kubectl(api.url, tmp_path, given=tmp_path / "other")
        assert "logged in" in wrong.refused("get", "brokers")
