"""`headrace apply`, `get` and `delete` against a running controller: output, exit codes, and errors
with the next step.
"""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from headrace.adapters.memory.store import MemoryResourceStore
from headrace_cli import resources
from headrace_cli.client import warning_texts
from tests.support.certificates import Authority
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

ROOT = Path(__file__).parents[3]
MANIFEST = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec: {}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: orders}
spec:
  broker: default
  subscriber: {uri: "http://sink.example/"}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ApiUnderTest]:
    """One controller for the module."""
    with running_api() as api:
        yield api


class Cli:
    """The command, configured to use the controller."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._app = typer.Typer()
        resources.register(self._app)

    def __call__(
        self, *arguments: str, text: str | None = None, server: str | None = None
    ) -> Result:
        """Run it."""
        return CliRunner().invoke(
            self._app,
            arguments,
            input=text,
            env={"HEADRACE_SERVER": server or self._url, "NO_COLOR": "1"},
        )


@pytest.fixture
def cli(server: ApiUnderTest, tmp_path: Path) -> Iterator[Cli]:
    """The command; the store is empty before and after."""
    run = Cli(server.url)
    yield run
    gone = run("delete", "-f", "-", "--ignore-not-found", text=MANIFEST)
    assert 0 == gone.exit_code, gone.output


def test_apply_creates_and_changes(cli: Cli, tmp_path: Path) -> None:
    """The first run creates, later runs apply; --wait returns when all objects are Ready."""
    file = tmp_path / "all.yaml"
    file.write_text(MANIFEST)
    first = cli("apply", "-f", str(file), "--wait", "--timeout", "20")
    assert (0, "broker.eventing") == (first.exit_code, "broker.eventing"), first.output
    assert [
        "brokers.eventing.knative.dev/default created",
        "triggers.eventing.knative.dev/orders created",
        "brokers.eventing.knative.dev/default is Ready",
        "triggers.eventing.knative.dev/orders is Ready",
    ] == first.output.splitlines()
    file.write_text(MANIFEST.replace("sink.example", "other.example"))
    assert ["applied", "applied"] == [
        line.split()[-1] for line in cli("apply", "-f", str(tmp_path)).output.splitlines()
    ]
    assert "http://other.example/" in cli("get", "trigger", "orders", "-o", "json").output


def test_warnings_of_the_api_are_printed(cli: Cli) -> None:
    """On stderr, as kubectl prints them, each once, although --wait reads the object many times."""
    text = MANIFEST + "  filters: [{cesql: 'INTT(amount) > 3'}]\n"
    result = cli("apply", "-f", "-", "--wait", text=text)
    assert 0 == result.exit_code, result.output
    assert "triggers.eventing.knative.dev/orders created" in result.stdout
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert 1 == len(warnings), result.stderr
    assert "INTT" in warnings[0]


def test_get_says_that_the_api_could_not_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, once; what is asked for is on stdout."""
    cli("apply", "-f", "-", text=MANIFEST)
    monkeypatch.setattr(MemoryResourceStore, "last_error", property(lambda _: "no answer"))
    result = cli("get", "triggers,brokers", "-o", "name")
    assert "Warning: objects and their status may be old: no answer\n" == result.stderr
    assert 2 == len(result.stdout.splitlines())


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ('299 - "plain"', ["plain"]),
        (
            r'299 - "a \"quoted\" word, a \\ and 299 - \"no\""',
            [r'a "quoted" word, a \ and 299 - "no"'],
        ),
        ('299 api.example:6443 "one", 299 - "two" "Sun, 06 Nov 2026 08:49:37 GMT"', ["one", "two"]),
        ('110 cache "not of the API", 299 - "of the API"', ["of the API"]),
        ('299 - "not closed', []),
        ("", []),
    ],
)
def test_the_text_of_a_warning_header_is_read(value: str, texts: list[str]) -> None:
    """A quoted string with escapes, several in a line, with and without a date (RFC 7234, 5.5)."""
    assert texts == warning_texts([value])


def test_apply_names_the_owner_of_a_conflicting_field(cli: Cli, server: ApiUnderTest) -> None:
    """The server's conflict message is printed with the next step; --force-conflicts takes over the
    field.
    """
    cli("apply", "-f", "-", text=MANIFEST)
    path = "/apis/eventing.knative.dev/v1/namespaces/default/triggers/orders?fieldManager=other"
    patch = {"spec": {"subscriber": {"uri": "http://theirs.example/"}}}
    server.call("PATCH", path, patch, headers={"Content-Type": "application/merge-patch+json"})
    refused = cli("apply", "-f", "-", text=MANIFEST)
    assert "--force-conflicts takes these fields over" in refused.output
    assert (1, True) == (refused.exit_code, 'conflict with "other"' in refused.output)
    assert 0 == cli("apply", "-f", "-", "--force-conflicts", text=MANIFEST).exit_code


def test_get_shows_knatives_columns(cli: Cli) -> None:
    """It shows the name and the columns of the kind in order, with the namespace for -A, and short
    output for scripts.
    """
    cli("apply", "-f", "-", "--wait", text=MANIFEST)
    lines = cli("get", "trigger").output.splitlines()
    assert ["NAME", "BROKER", "SUBSCRIBER_URI", "AGE", "READY", "REASON", "DELIVERY"] == (
        lines[0].split()
    )
    assert ["orders", "default", "http://sink.example/"] == lines[1].split()[:3]
    assert "True" in lines[1].split()
    assert ["NAMESPACE", "NAME", "URL", "AGE", "READY", "REASON"] == cli(
        "get", "brokers", "-A"
    ).output.splitlines()[0].split()
    assert "CLASS" in cli("get", "broker", "-o", "wide").output
    assert "triggers.eventing.knative.dev/orders\n" == cli("get", "Trigger", "-o", "name").output
    assert (
        "orders"
        == json.loads(cli("get", "triggers", "orders", "-o", "json").output)["metadata"]["name"]
    )
    assert "TriggerList" == yaml.safe_load(cli("get", "triggers", "-o", "yaml").output)["kind"]


SOURCES = """
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: beat}
spec:
  sink: {uri: "http://sink.example/"}
---
apiVersion: sources.knative.dev/v1
kind: ContainerSource
metadata: {name: till}
spec:
  template: {spec: {containers: [{image: till}]}}
  sink: {uri: "http://sink.example/"}
"""


def test_get_of_a_category_shows_a_table_for_each_kind(cli: Cli) -> None:
    """Kinds without objects are left out; the names say of which kind they are."""
    none = cli("get", "sources")
    assert (0, True) == (none.exit_code, "no sources in namespace default" in none.output)
    assert 0 == cli("apply", "-f", "-", text=SOURCES).exit_code
    try:
        tables = [each.splitlines() for each in cli("get", "sources").stdout.split("\n\n")]
        assert [
            ["NAME", "containersources.sources.knative.dev/till"],
            ["NAME", "pingsources.sources.knative.dev/beat"],
        ] == sorted([line.split()[0] for line in each] for each in tables)
        assert "default" in cli("get", "Sources", "-A").stdout
        names = cli("get", "sources", "-o", "name").stdout.split()
        assert {"pingsources.sources.knative.dev/beat"} < set(names)
        assert len(names) == len(set(names)) == 2
        everything = json.loads(cli("get", "sources", "-o", "json").stdout)
        assert ("List", {"beat", "till"}) == (
            everything["kind"],
            {each["metadata"]["name"] for each in everything["items"]},
        )
        one = yaml.safe_load(cli("get", "bindings", "-o", "yaml").stdout)
        assert "SinkBindingList" == one["kind"]
    finally:
        cli("delete", "-f", "-", text=SOURCES)


@pytest.mark.parametrize("command", ["get", "delete"])
def test_a_name_is_of_one_kind(cli: Cli, command: str) -> None:
    """As with kubectl: which kind is meant must be said."""
    refused = cli(command, "sources", "beat")
    assert (1, True) == (refused.exit_code, "sources is a category of" in refused.output)
    assert "name one: " in refused.output


@pytest.mark.parametrize(
    "directory", sorted((ROOT / "examples" / "sources").iterdir()), ids=lambda path: path.name
)
def test_the_examples_of_a_source_need_no_cluster(cli: Cli, directory: Path) -> None:
    """A whole directory is applied and deleted without a complaint: what only a cluster knows is in
    examples/kubernetes. Only a legacy kind is announced as deprecated.
    """
    # No sources service runs here, which would remove the finalizers of some.
    for command in (("apply",), ("delete", "--no-wait")):
        result = cli(*command, "-f", str(directory))
        said = [line for line in result.stderr.splitlines() if " is deprecated; use " not in line]
        assert (0, []) == (result.exit_code, said)


def test_delete_continues_after_a_kind_that_is_unknown(cli: Cli) -> None:
    """Such an object cannot exist; the others of the file are deleted all the same."""
    unknown = "apiVersion: nobody.dev/v1\nkind: Nothing\nmetadata: {name: none}\n"
    both = f"{MANIFEST}---\n{unknown}"
    cli("apply", "-f", "-", text=MANIFEST)
    deleted = cli("delete", "-f", "-", text=both)
    assert 1 == deleted.exit_code
    assert "brokers.eventing.knative.dev/default deleted" in deleted.stdout
    assert "no kind Nothing in nobody.dev/v1" in deleted.stderr
    again = cli("delete", "-f", "-", "--ignore-not-found", text=both)
    assert (0, "", "") == (again.exit_code, again.stdout, again.stderr)


def test_delete_by_name_and_by_file(cli: Cli) -> None:
    """Triggers are deleted before their Broker; a missing object is an error unless
    --ignore-not-found is given.
    """
    cli("apply", "-f", "-", text=MANIFEST)
    # The controller in this process logs to the same output.
    assert cli("delete", "trigger", "orders").output.endswith(
        "triggers.eventing.knative.dev/orders deleted\n"
    )
    again = cli("delete", "trigger", "orders")
    assert (1, True) == (
        again.exit_code,
        "triggers.eventing.knative.dev/orders not found in namespace default" in again.output,
    )
    by_file = cli("delete", "-f", "-", "--ignore-not-found", text=MANIFEST)
    assert (0, True) == (
        by_file.exit_code,
        by_file.output.endswith("brokers.eventing.knative.dev/default deleted\n"),
    )


@pytest.mark.parametrize("command", ["get", "delete"])
def test_an_empty_name_is_not_all_objects(cli: Cli, command: str) -> None:
    """As that of an unset variable of a shell: the path of such an object is that of them all."""
    cli("apply", "-f", "-", text=MANIFEST)
    for words in (("trigger", ""), ("trigger/",), ("trigger", "orders", "")):
        refused = cli(command, *words)
        assert (2, "") == (refused.exit_code, refused.stdout)
    for document in ("{}", "{name: ''}", "{name: null}", "null", "{name: [orders]}"):
        nameless = f"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {document}\n"
        refused = cli("delete", "-f", "-", text=nameless)
        assert 2 == refused.exit_code
        assert "standard input:1: Trigger: metadata.name is missing" in refused.stderr
    assert 0 == cli("get", "trigger", "orders").exit_code


HELD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.com/hold]}
"""


def test_delete_waits_until_all_is_gone(cli: Cli) -> None:
    """A Trigger and a Broker have finalizers: what is applied before they are removed would be
    deleted as well.
    """
    for _ in range(3):
        created = cli("apply", "-f", "-", "--wait", "--timeout", "20", text=MANIFEST)
        assert (0, 2) == (created.exit_code, created.output.count(" created")), created.output
        deleted = cli("delete", "-f", "-", text=MANIFEST)
        assert (0, 2) == (deleted.exit_code, deleted.output.count(" deleted")), deleted.output
    assert "no triggers in namespace default" in cli("get", "triggers").output
    assert "no brokers in namespace default" in cli("get", "brokers").output


def test_apply_waits_for_the_rest_if_one_object_is_refused(cli: Cli) -> None:
    """Each of the others is reported Ready; the exit code says that one was refused."""
    refused = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: UPPER}\n"
    applied = cli("apply", "-f", "-", "--wait", text=f"{refused}---\n{MANIFEST}")
    assert 1 == applied.exit_code
    assert "Broker UPPER" in applied.stderr
    assert 2 == applied.stdout.count("is Ready")


def test_what_is_still_there_is_named_with_the_reason(cli: Cli) -> None:
    """A deletion that takes too long is an error, and so is what would be deleted with it."""
    assert 0 == cli("apply", "-f", "-", text=HELD).exit_code
    late = cli("delete", "configmap", "held", "--timeout", "0.2")
    assert 1 == late.exit_code
    assert (
        "configmaps/held is still there after 0.2 s (the service of each finalizer has to remove"
        " it: example.com/hold); `headrace get configmaps held -n default -o yaml` shows it"
    ) in late.stderr
    assert 0 == cli("delete", "configmap", "held", "--no-wait").exit_code
    for text in (HELD, HELD.replace(", finalizers: [example.com/hold]", "")):
        applied = cli("apply", "-f", "-", text=text)
        assert 1 == applied.exit_code
        assert "standard input:2: ConfigMap held: it is being deleted" in applied.stderr
    assert 1 == cli("get", "configmap", "held").exit_code


@pytest.mark.parametrize("command", ["apply", "delete"])
def test_a_manifest_of_another_namespace_is_refused(cli: Cli, command: str) -> None:
    """Before anything is changed, in the namespace of the option or in the other."""
    named = MANIFEST.replace("{name: orders}", "{name: orders, namespace: default}")
    if command == "delete":
        assert 0 == cli("apply", "-f", "-", text=MANIFEST).exit_code
    before = cli("get", "triggers,brokers", "-A", "-o", "name").stdout
    refused = cli(command, "-f", "-", "-n", "shop", text=named)
    assert 2 == refused.exit_code
    assert (
        "standard input:6: Trigger orders: it names the namespace default, and --namespace shop;"
        " leave out the option, or give default"
    ) in refused.stderr
    assert before == cli("get", "triggers,brokers", "-A", "-o", "name").stdout


def test_objects_are_named_as_with_kubectl(cli: Cli) -> None:
    """KIND/NAME, several names, and several kinds."""
    cli("apply", "-f", "-", text=MANIFEST)
    assert "orders" in cli("get", "trigger/orders").stdout
    several = cli("get", "triggers,brokers", "-o", "name").stdout.split()
    assert ["triggers.eventing.knative.dev/orders", "brokers.eventing.knative.dev/default"] == (
        several
    )
    mixed = cli("delete", "trigger/orders", "default")
    assert (2, True) == (mixed.exit_code, "default: after KIND/NAME, give each" in mixed.stderr)
    assert 0 == cli("delete", "trigger/orders", "broker/default").exit_code
    absent = cli("delete", "triggers", "one", "two")
    assert 1 == absent.exit_code
    for name in ("one", "two"):
        assert f"triggers.eventing.knative.dev/{name} not found" in absent.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "code", "message"),
    [
        (
            ("get", "things"),
            None,
            1,
            "the server has no kind 'things'; `headrace get crd` shows what there is",
        ),
        (("get", "brokr"), None, 1, "the server has no kind 'brokr'; did you mean broker?"),
        (("get", "trigger", "gone"), None, 1, 'triggers.eventing.knative.dev "gone" not found'),
        (("get", "trigger", "x", "-A"), None, 2, "leave out -A or the name"),
        (("delete", "trigger"), None, 2, "give KIND and NAME, or -f FILE"),
        (("apply", "-f", "/nowhere.yaml"), None, 2, "/nowhere.yaml: No such file or directory"),
        (
            ("apply", "-f", "-"),
            "a: &x 1\n",
            2,
            "standard input:1: anchors and aliases are not taken",
        ),
        (("apply", "-f", "-"), "", 2, "no manifests in -"),
        (
            ("apply", "-f", "-"),
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n",
            1,
            "the server has no kind Pod in v1",
        ),
        (
            ("apply", "-f", "-"),
            (
                "\n\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: x}\nspec:"
                " {broker: b}\n"
            ),
            1,
            "standard input:3: Trigger x: ",
        ),
    ],
)
def test_errors_name_the_place_and_the_next_step(
    cli: Cli, arguments: tuple[str, ...], text: str | None, code: int, message: str
) -> None:
    """The exit code is 2 for wrong usage, and 1 if something was refused or is missing. There is
    never a traceback.
    """
    result = cli(*arguments, text=text)
    assert code == result.exit_code, result.output
    assert message in result.output


def test_an_unreachable_controller_is_reported_with_the_next_step(cli: Cli) -> None:
    """The message names the address and the commands that start a controller."""
    result = cli("get", "brokers", server="http://127.0.0.1:1")
    assert 1 == result.exit_code
    assert "no answer from http://127.0.0.1:1" in result.output
    assert "headrace up" in result.output


@pytest.mark.parametrize(
    ("scheme", "step"),
    [
        (
            "http",
            "if the server speaks HTTPS, name it with --server or HEADRACE_SERVER as https://",
        ),
        ("https", "name the CA of the server with --certificate-authority or"),
    ],
)
def test_a_server_that_speaks_https_is_reported_with_the_next_step(
    cli: Cli, tmp_path: Path, scheme: str, step: str
) -> None:
    certificate = Authority(tmp_path).sign("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"{scheme}://127.0.0.1:{server.server_port}"
            result = cli("get", "brokers", server=url)
        finally:
            server.shutdown()
            thread.join(10.0)
    assert 1 == result.exit_code
    assert f"no answer from {url}" in result.output
    assert step in result.output
    assert "start a controller" not in result.output


def test_wait_reports_why_an_object_is_not_ready(cli: Cli) -> None:
    """The output contains the reason of the condition and the command that shows more, which works
    without kubectl.
    """
    alone = MANIFEST.split("---")[1]
    result = cli("apply", "-f", "-", "--wait", "--timeout", "0.5", text=alone)
    assert 1 == result.exit_code
    assert 'BrokerDoesNotExist: Broker "default" does not exist' in result.output
    command = "get triggers.eventing.knative.dev orders -n default -o yaml"
    assert f"`headrace {command}` shows all conditions" in result.output
    assert "BrokerDoesNotExist" in cli(*command.split()).output


def test_wait_waits_for_a_source_of_any_group(cli: Cli) -> None:
    """Its CRD says that it is one by the category. This controller does not reconcile the kind."""
    custom = ROOT / "examples" / "sources" / "custom"
    assert 0 == cli("apply", "-f", str(custom / "crd.yaml"), "--wait").exit_code
    try:
        result = cli("apply", "-f", str(custom / "weather.yaml"), "--wait", "--timeout", "0.3")
        assert 1 == result.exit_code
        assert "weathersources.example.com/lisbon is not Ready after 0.3 s" in result.output
        assert "it has no status: is a controller writing?" in result.output
    finally:
        cli("delete", "-f", str(custom / "weather.yaml"))
        cli("delete", "-f", str(custom / "crd.yaml"))


def test_wait_reports_slow_objects_before_the_timeout(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported once for each reason, not once for each poll."""
    monkeypatch.setattr("headrace_cli.waiting._USUAL_SECONDS", 0.3)
    result = cli("apply", "-f", "-", "--wait", "--timeout", "1.0", text=MANIFEST.split("---")[1])
    assert 1 == result.output.count("is not Ready yet (BrokerDoesNotExist")


def test_a_missing_namespace_is_reported_with_the_next_step(cli: Cli) -> None:
    """The output contains the server's message and the next step."""
    found = cli("apply", "-f", "-", "-n", "nowhere", text=MANIFEST)
    assert 1 == found.exit_code
    assert 'namespaces "nowhere" not found; apply a Namespace of that name first' in found.output
