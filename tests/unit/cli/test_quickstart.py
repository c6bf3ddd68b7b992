"""The manifests of the quickstart, and how `headrace up` uses them."""

from pathlib import Path

import pytest

from headrace import filters
from headrace.adapters.manifests import InvalidManifest
from headrace_cli.client import ApiClient
from headrace_cli.quickstart import (
    ExistingResources,
    apply,
    curl,
    existing_resources,
    find_ready_broker,
    manifests,
    sample_headers,
)
from tests.unit.apiserver.running_api import running_api

EXAMPLES = Path(__file__).parents[3] / "examples"


def _subscribers(paths: list[Path], viewer_port: int = 8090) -> list[str]:
    found = [each.document for each in manifests(paths, viewer_port=viewer_port)]
    return [each["spec"]["subscriber"]["uri"] for each in found if each["kind"] == "Trigger"]


def test_the_quickstart_is_a_broker_and_two_triggers() -> None:
    """Their subscriber is the event viewer, on the given port."""
    assert ["Broker", "Trigger", "Trigger"] == [
        each.document["kind"] for each in manifests([], viewer_port=8090)
    ]
    assert ["http://127.0.0.1:8090/orders", "http://127.0.0.1:8090/large-orders"] == _subscribers(
        []
    )
    assert ["http://127.0.0.1:9/orders", "http://127.0.0.1:9/large-orders"] == _subscribers(
        [], viewer_port=9
    )


def test_the_compose_file_has_the_same_quickstart() -> None:
    """Only the address of the viewer differs: there it is the address of a container."""
    ours, theirs = (
        [each.document for each in manifests([EXAMPLES / name], viewer_port=8090)]
        for name in ("quickstart", "compose/quickstart.yaml")
    )
    for each in theirs[1:]:
        each["spec"]["subscriber"]["uri"] = each["spec"]["subscriber"]["uri"].replace(
            "//viewer:", "//127.0.0.1:"
        )
    assert ours == theirs


@pytest.mark.parametrize("name", ["quickstart", "demo/demo.yaml", "filters/trigger.yaml"])
def test_a_filter_of_an_example_takes_an_event_without_amount(name: str) -> None:
    """Evaluating it is no error, which the dispatcher would log."""
    event = {"specversion": "1.0", "id": "1", "source": "/me", "type": "order.created"}
    errors: list[object] = []
    found = [each.document for each in manifests([EXAMPLES / name], viewer_port=8090)]
    for trigger in (each for each in found if each["kind"] == "Trigger"):
        filters.compile_trigger(trigger, on_error=errors.append).matches(event)
    assert [] == errors


def test_a_directory_of_manifests_is_read_as_a_whole(tmp_path: Path) -> None:
    """Files are read in the order of their names. The error for an invalid file names it."""
    (tmp_path / "b.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}")
    (tmp_path / "a.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
    assert ["a", "b"] == [
        each.document["metadata"]["name"] for each in manifests([tmp_path], viewer_port=1)
    ]
    with pytest.raises(InvalidManifest, match=r"none\.yaml"):
        manifests([tmp_path / "none.yaml"], viewer_port=1)


def test_the_curl_line_can_be_pasted() -> None:
    """It contains the address and the required attributes of an event."""
    line = curl("http://127.0.0.1:8080/default/default")
    assert line.startswith("curl -i http://127.0.0.1:8080/default/default ")
    for attribute in ("specversion", "id", "source", "type"):
        assert f"ce-{attribute}: " in line
        assert f"ce-{attribute}" in sample_headers()


def test_a_directory_of_directories_names_them() -> None:
    """The examples cannot be applied together: each of their directories is applied separately."""
    with pytest.raises(
        InvalidManifest,
        match=(
            r"examples: no \.yaml.* there are some in .*compose, .*quickstart, .*sequence: name the"
            r" directory"
        ),
    ):
        manifests([EXAMPLES], viewer_port=1)


def test_what_is_there_is_counted() -> None:
    """At first there is nothing, then the Brokers and Triggers, and a Broker that accepts
    events.
    """
    with running_api() as api:
        client = ApiClient(api.url)
        assert (None, None) == (existing_resources(client), find_ready_broker(client, 0.0))
        apply(client, manifests([], viewer_port=1))
        assert (ExistingResources(1, 2), "default/default") == (
            existing_resources(client),
            find_ready_broker(client, 10.0),
        )
    assert "1 Broker and 2 Triggers" == str(ExistingResources(1, 2))
