"""What a PingSource and a CronJobSource become in the routing table."""

import json
from typing import Any

import pytest

from headrace.domain.routing import EventSource
from headrace.resources.kinds import CRON_JOB_SOURCE, EVENT_TYPE, PING_SOURCE
from headrace.resources.ping_source import CRON_JOB_RULES, RULES
from headrace.resources.resource import Resource
from headrace_sources.adapters.ping import MissedRuns, PingConfig
from tests.unit.controller.harness import NAMESPACE, broker, manifest, settled

SINK = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}
OLD_SINK = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Broker", "name": "default"}
DEEP = "[" * 100_000


def ping(annotations: dict[str, str] | None = None, **spec: Any) -> Resource:
    """A PingSource."""
    return manifest(PING_SOURCE, "beat", spec={"sink": SINK, **spec}, annotations=annotations or {})


def cron_job(**spec: Any) -> Resource:
    """A CronJobSource, as of Knative 0.5."""
    return manifest(CRON_JOB_SOURCE, "beat", spec={"sink": OLD_SINK, **spec})


async def config_of(source: Resource) -> PingConfig:
    """What the adapter of a source gets."""
    harness = await settled(broker(), source, services=("ingress", "dispatcher", "sources"))
    [route] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
    assert route.adapter == "ping"
    [attributes] = harness.status(source.kind, "beat")["ceAttributes"]
    config = PingConfig.model_validate(dict(route.config))
    assert attributes == {"type": config.type, "source": config.source}
    types = [each.spec for each in harness.store.list(EVENT_TYPE, NAMESPACE)]
    assert [config.type] == [each["type"] for each in types]
    return config


def errors_of(source: Resource) -> list[str]:
    """What validation says."""
    return [str(each) for each in RULES.validate(source)]


async def test_fields_reach_the_adapter() -> None:
    """Under their own names."""
    spec = {
        "schedule": "0 9 * * MON-FRI",
        "timezone": "Europe/Lisbon",
        "contentType": "application/json",
        "data": '{"a": 1}',
    }
    found = await config_of(ping({"headrace.dev/missed-runs": "once"}, **spec))
    assert found.type == "dev.knative.sources.ping"
    assert found.source == f"/apis/v1/namespaces/{NAMESPACE}/pingsources/beat"
    assert (found.schedule, found.timezone) == (spec["schedule"], "Europe/Lisbon")
    assert (found.content_type, found.data) == ("application/json", '{"a": 1}')
    assert found.missed_runs is MissedRuns.ONCE


async def test_nothing_is_required_but_a_sink() -> None:
    """Every minute, without data; missed times are skipped."""
    found = await config_of(ping())
    assert (found.schedule, found.data, found.data_base64) == ("* * * * *", "", "")
    assert found.missed_runs is MissedRuns.SKIP


async def test_a_table_shows_that_it_is_switched_off() -> None:
    """The reason of Ready is the column REASON; without the annotation it is gone."""
    services = ("ingress", "dispatcher", "sources")
    paused = ping({"headrace.dev/paused": "true"})
    harness = await settled(broker(), paused, services=services)
    assert harness.condition(PING_SOURCE, "beat", "Ready") == ("True", "Paused")
    await harness.apply(ping())
    await harness.settle()
    assert harness.condition(PING_SOURCE, "beat", "Ready")[1] != "Paused"


async def test_a_source_that_is_switched_off_without_a_sink_is_not_ready() -> None:
    """What has to be repaired before it is switched on is more important."""
    harness = await settled(ping({"headrace.dev/paused": "true"}))
    assert harness.condition(PING_SOURCE, "beat", "Ready") == ("False", "NotFound")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"message": "hi"}', {"message": "hi"}),
        ("[1]", [1]),
        ("hello", {"body": "hello"}),
        ("NaN", {"body": "NaN"}),
        ("", {"body": ""}),
        (DEEP, {"body": DEEP}),
    ],
)
async def test_the_data_of_2019_is_always_json(text: str, data: Any) -> None:
    """As it is, or in an object."""
    found = await config_of(cron_job(schedule="@hourly", data=text))
    assert found.type == "dev.knative.cronjob.event"
    assert found.source == f"/apis/v1/namespaces/{NAMESPACE}/cronjobsources/beat"
    assert found.content_type == "application/json"
    assert json.loads(found.data) == data


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            ping(data="a", dataBase64="YQ=="),
            "expected exactly one, got both: spec.data, spec.dataBase64",
        ),
        (ping(dataBase64="?"), "spec.dataBase64"),
        (ping(contentType="application/json", data="[1]"), "not a JSON object: spec.data"),
        (ping(contentType="application/json", data='{"a": NaN}'), "not a JSON object: spec.data"),
        (ping(contentType="application/json", data=DEEP), "not a JSON object: spec.data"),
        (ping(contentType="application/json", dataBase64="YQ=="), "spec.dataBase64"),
        (ping({"headrace.dev/missed-runs": "some"}), "expected one of skip, once, all"),
    ],
)
def test_what_is_wrong_is_named(source: Resource, message: str) -> None:
    """With Knative's words where it has some."""
    [error] = errors_of(source)
    assert message in error


def test_what_is_right_is_accepted() -> None:
    """Data of any media type; all policies."""
    assert errors_of(ping(contentType="application/json", dataBase64="e30=")) == []
    assert errors_of(ping(contentType="text/plain", data="[")) == []
    for each in MissedRuns:
        assert errors_of(ping({"headrace.dev/missed-runs": each.value})) == []
    assert list(CRON_JOB_RULES.validate(cron_job(schedule="@hourly", data="x"))) == []
