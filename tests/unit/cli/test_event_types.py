"""`headrace types` against a running controller: both directions, formats and errors."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from headrace_cli import event_types, resources
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import running_api

MANIFESTS = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: shop}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: all}
spec: {broker: shop, subscriber: {uri: "http://sink.example/"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: never}
spec:
  broker: shop
  filters: [{prefix: {type: invoice.}}]
  subscriber: {uri: "http://sink.example/"}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: vip}
spec:
  broker: shop
  filters: [{cesql: "type LIKE 'order.%' AND customer = 'vip'"}]
  subscriber: {uri: "http://sink.example/"}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: lost}
spec: {broker: gone, subscriber: {uri: "http://sink.example/"}}
---
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: bills}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: lost}
spec:
  channel: {apiVersion: messaging.knative.dev/v1beta1, kind: KafkaChannel, name: gone}
  subscriber: {uri: "http://sink.example/"}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: misled}
spec:
  channel: {apiVersion: example.com/v1, kind: QueueChannel, name: bills}
  subscriber: {uri: "http://sink.example/"}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: billing}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: bills}
  subscriber: {uri: "http://sink.example/"}
---
apiVersion: eventing.knative.dev/v1beta2
kind: EventType
metadata: {name: created}
spec:
  type: order.created
  source: /shop
  schemaData: "{}"
  reference: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: shop}
---
apiVersion: eventing.knative.dev/v1beta2
kind: EventType
metadata: {name: printed}
spec:
  type: bill.printed
  schema: http://schemas/bill
  reference: {apiVersion: messaging.knative.dev/v1beta1, kind: KafkaChannel, name: bills}
---
apiVersion: eventing.knative.dev/v1beta2
kind: EventType
metadata: {name: replied}
spec:
  type: order.answered
  reference: {apiVersion: eventing.knative.dev/v1, kind: Trigger, name: all}
---
apiVersion: eventing.knative.dev/v1beta2
kind: EventType
metadata: {name: vanished}
spec:
  type: order.vanished
  reference: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: gone}
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Any]:
    """The command, configured to use a controller with these objects."""
    app = typer.Typer()
    resources.register(app)
    event_types.register(app)
    with running_api() as api:

        def run(*arguments: str, text: str | None = None) -> Result:
            env = {"HEADRACE_SERVER": api.url, "NO_COLOR": "1"}
            return CliRunner().invoke(app, arguments, input=text, env=env)

        applied = run("apply", "-f", "-", text=MANIFESTS)
        assert 0 == applied.exit_code, applied.output
        yield run


def test_all_types_with_their_receivers(cli: Any) -> None:
    """Where they are, with which schema, who described them, and who gets them."""

    def described() -> dict[str, Any]:
        items = json.loads(cli("types", "-o", "json").stdout)["items"]
        return {each["type"]: each for each in items}

    wait_until(
        lambda: all(each["validation"] for each in described().values() if each["schema"]),
        10,
        "the controller has looked at the schemas",
    )
    found = described()
    assert {"order.created", "bill.printed", "order.answered", "order.vanished"} == set(found)
    created = found["order.created"]
    assert ("Broker shop", "inline", "manifest") == tuple(
        created[name] for name in ("on", "schema", "origin")
    )
    assert [
        {"receiver": "Trigger all", "match": "Yes", "dependsOn": []},
        {"receiver": "Trigger vip", "match": "Maybe", "dependsOn": ["customer"]},
    ] == created["receivers"]
    assert "Broker shop" == found["order.answered"]["on"], "replies go to the Trigger's Broker"
    assert ("Channel bills", "http://schemas/bill") == (
        found["bill.printed"]["on"],
        found["bill.printed"]["schema"],
    )
    table = cli("types").stdout
    assert "TYPE" in table and "EVENT TYPE" in table
    assert "Trigger all, Trigger vip (maybe: customer)" in table
    assert found == {
        each["type"]: each for each in yaml.safe_load(cli("types", "-o", "yaml").stdout)["items"]
    }


def test_who_would_receive_a_type(cli: Any) -> None:
    """Where its EventTypes are; of a type that nobody has described, everywhere, and it says so."""
    lines = [line.split() for line in cli("types", "order.created").stdout.splitlines()]
    assert ["Broker", "shop", "Trigger", "all", "Yes", "-"] in lines
    assert ["Broker", "shop", "Trigger", "vip", "Maybe", "customer"] in lines
    assert 3 == len(lines)
    unknown = cli("types", "invoice.paid", "--source", "/x")
    assert "no EventType describes invoice.paid" in unknown.stderr
    named = [line.split() for line in unknown.stdout.splitlines()]
    assert ["Broker", "shop", "Trigger", "never", "Yes", "-"] in named
    assert ["Channel", "bills", "Subscription", "billing", "Yes", "-"] in named
    assert not any("vip" in line for line in named)


def test_what_a_trigger_and_a_subscription_receive(cli: Any) -> None:
    """The EventTypes that pass its filters; of a Subscription all of its channel."""
    found = json.loads(cli("types", "--trigger", "vip", "-o", "json").stdout)["items"]
    assert [("order.created", "Maybe"), ("order.answered", "Maybe")] == [
        (each["type"], each["match"]) for each in found
    ]
    empty = cli("types", "--trigger", "never")
    assert (0, "") == (empty.exit_code, empty.stdout)
    assert "no EventType in namespace default passes Trigger never" in empty.stderr
    found = json.loads(cli("types", "--subscription", "billing", "-o", "json").stdout)["items"]
    assert ["bill.printed"] == [each["type"] for each in found]


NO_BROKER = "Broker gone does not exist in namespace default: no events for Trigger lost\n"
NO_CHANNEL = (
    "KafkaChannel gone does not exist in namespace default: no events for Subscription lost\n"
)
NO_KIND = (
    "QueueChannel bills does not exist in namespace default: no events for Subscription misled\n"
)


@pytest.mark.parametrize("output", ["table", "json"])
def test_who_reads_from_what_does_not_exist_receives_nothing(cli: Any, output: str) -> None:
    """It is no receiver, and a line on standard error says why. The types of that place stay."""
    shown = cli("types", "-o", output)
    assert "lost" not in shown.stdout
    assert "order.vanished" in shown.stdout
    assert f"headrace: {NO_BROKER}" in shown.stderr
    assert f"headrace: {NO_KIND}" in shown.stderr, "bill.printed is on a channel of that name"
    assert NO_CHANNEL not in shown.stderr, "no type is described there"
    described = cli("types", "order.vanished", "-o", output)
    assert "lost" not in described.stdout
    assert NO_BROKER in described.stderr
    assert NO_CHANNEL not in described.stderr
    everywhere = cli("types", "invoice.paid", "-o", output)
    assert "all" in everywhere.stdout
    assert "lost" not in everywhere.stdout and "misled" not in everywhere.stdout
    assert all(each in everywhere.stderr for each in (NO_BROKER, NO_CHANNEL, NO_KIND))
    for option, message in (("--trigger", NO_BROKER), ("--subscription", NO_CHANNEL)):
        one = cli("types", option, "lost", "-o", output)
        assert 0 == one.exit_code
        assert one.stderr.startswith(f"headrace: {message}")
        assert "" == one.stdout if output == "table" else {"items": []} == json.loads(one.stdout)


def test_many_of_them_are_one_line(cli: Any) -> None:
    """In a namespace with more Triggers than a message names."""
    text = yaml.safe_dump_all(
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Trigger",
            "metadata": {"name": f"t{number}"},
            "spec": {"broker": "gone", "subscriber": {"uri": "http://sink.example/"}},
        }
        for number in range(7)
    )
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}}
    assert 0 == cli("apply", "-f", "-", text=yaml.safe_dump(namespace)).exit_code
    assert 0 == cli("apply", "-f", "-", "-n", "many", text=text).exit_code
    shown = cli("types", "x", "-n", "many")
    names = ", ".join(f"Trigger t{number}" for number in range(5))
    assert (
        f"Broker gone does not exist in namespace many: no events for {names}, and 2 more\n"
        in shown.stderr
    )
    assert "" == shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("order.created", "--trigger", "all"), 2, "give one of TYPE, --trigger"),
        (("--source", "/x"), 2, "--source needs a TYPE"),
        (("-o", "wide"), 2, "expected table, json or yaml"),
        (("--trigger", "gone"), 1, "there is no Trigger gone in namespace default"),
        (("--subscription", "gone", "-n", "other"), 1, "no Subscription gone in namespace other"),
        (("--server", "http://127.0.0.1:9"), 1, "no answer from http://127.0.0.1:9"),
    ],
)
def test_an_error_says_what_is_wrong(
    cli: Any, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """With the exit code of the kind of error."""
    failed = cli("types", *arguments)
    assert code == failed.exit_code
    assert message in failed.stderr
