"""PingSource and CronJobSource on the clock of the machine, by their examples."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.headrace_under_test import HeadraceUnderTest, condition
from tests.support.manifests import broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "clocks"
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(120)


def example(path: str, **spec: Any) -> list[dict[str, Any]]:
    """The manifests of an example, in the namespace of these tests."""
    found = list(yaml.safe_load_all((ROOT / "examples" / path).read_text()))
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
        each["spec"] |= spec
    return found


def test_the_example_sends_an_event_at_each_time(headrace: HeadraceUnderTest) -> None:
    """Every second instead of every minute here; each time once, from two processes."""
    headrace.sinks.script("ping", Script(record=True))
    headrace.establish(broker(NAMESPACE))
    headrace.establish(trigger(NAMESPACE, "ping", headrace.sinks.url("ping")))
    every, morning = example("sources/ping/pingsource.yaml")
    every["spec"]["schedule"] = "* * * * * *"
    headrace.establish(every, morning)
    wait_until(lambda: len(headrace.sinks.requests("ping")) >= 4, 20, "events arrive")
    requests = headrace.sinks.requests("ping")
    assert json.loads(requests[0].body) == {"message": "Hello world!"}
    assert requests[0].headers["content-type"] == "application/json"
    # The Trigger has no order: an event may arrive before that of the second before it.
    times = [each.headers["ce-time"] for each in requests]
    assert len(set(times)) == len(times)
    assert len({each.headers["ce-id"] for each in requests}) == len(requests)
    headrace.delete(every, morning)


def test_the_example_of_2019_sends_its_data(headrace: HeadraceUnderTest) -> None:
    """To a sink that is a reference, with the type of then."""
    headrace.sinks.script("cron", Script(record=True))
    headrace.establish(broker(NAMESPACE, "crons"))
    headrace.establish(trigger(NAMESPACE, "cron", headrace.sinks.url("cron"), broker="crons"))
    sink = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Broker", "name": "crons"}
    [source] = example("legacy/cronjobsource.yaml", schedule="* * * * * *", sink=sink)
    headrace.establish(source)
    wait_until(lambda: headrace.sinks.requests("cron"), 20, "an event arrives")
    [first, *_] = headrace.sinks.requests("cron")
    assert json.loads(first.body) == {"message": "Hello world!"}
    assert first.headers["ce-type"] == "dev.knative.cronjob.event"
    assert first.headers["ce-source"].endswith("/cronjobsources/test-cronjob-source")
    headrace.delete(source)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"schedule": "61 * * * *"}, "InvalidSchedule"),
        ({"timezone": "Mars/Base"}, "InvalidTimeZone"),
    ],
)
def test_what_is_wrong_is_shown_within_seconds(
    headrace: HeadraceUnderTest, spec: dict[str, str], reason: str
) -> None:
    """With the field in the message."""
    [source, _] = example("sources/ping/pingsource.yaml", **spec)
    source["metadata"]["name"] = reason.lower()
    headrace.establish(broker(NAMESPACE))
    headrace.apply(source)

    def shown() -> bool:
        found = condition(headrace.get(source) or {}, "Ready")
        return found.get("reason") == reason and "spec." in found.get("message", "")

    wait_until(shown, 15, f"{reason} is shown")
    headrace.delete(source)


def test_the_example_of_a_timer_sends_its_message(headrace: HeadraceUnderTest) -> None:
    """IntegrationSource `timer`, ten times as fast, three times."""
    headrace.sinks.script("timer", Script(record=True))
    headrace.establish(broker(NAMESPACE, "timers"))
    headrace.establish(trigger(NAMESPACE, "timer", headrace.sinks.url("timer"), broker="timers"))
    [source] = example("sources/timer/integrationsource.yaml")
    source["spec"]["sink"]["ref"]["name"] = "timers"
    source["spec"]["timer"] |= {"period": 500, "repeatCount": 3}
    headrace.establish(source)
    wait_until(lambda: len(headrace.sinks.requests("timer")) == 3, 20, "three events arrive")
    first = headrace.sinks.requests("timer")[0]
    assert first.body == b"Hello world!"
    assert first.headers["ce-type"] == "dev.knative.eventing.timer"
    assert first.headers["ce-source"] == "dev.knative.eventing.timer-source"
    assert first.headers["ce-subject"] == "timer-source"
    headrace.delete(source)


def _holder(headrace: HeadraceUnderTest, name: str) -> str:
    """The process that runs a PingSource, by its metrics."""
    line = f'headrace_source_running{{kind="PingSource",name="{name}",namespace="{NAMESPACE}"}} 1.0'
    names = [each for each in headrace.services if each.startswith("sources")]
    [found] = [
        each for each in names if headrace.services[each].running and line in headrace.metrics(each)
    ]
    return found


def test_a_killed_process_costs_no_time_and_no_second_firing(headrace: HeadraceUnderTest) -> None:
    """With the policy `all`: every second has its event, and one that comes twice, because the
    process was killed before it could store its cursor, has the same id.
    """
    if "sources-1" not in headrace.services:
        pytest.skip("`headrace up` is one process, and no process survives it")
    headrace.sinks.script("killed", Script(record=True))
    [source, _] = example("sources/ping/pingsource.yaml")
    source["metadata"] |= {"name": "killed", "annotations": {"headrace.dev/missed-runs": "all"}}
    source["spec"] |= {"schedule": "* * * * * *", "sink": {"uri": headrace.sinks.url("killed")}}
    headrace.establish(source)

    def times() -> list[str]:
        return [each.headers["ce-time"] for each in headrace.sinks.requests("killed")]

    wait_until(lambda: len(times()) >= 3, 20, "events arrive")
    holder = _holder(headrace, "killed")
    headrace.services[holder].kill()
    before = len(times())

    def is_complete() -> bool:
        """No second is missing, whatever order they came in."""
        seconds = {int(datetime.fromisoformat(each).timestamp()) for each in times()}
        return len(times()) > before + 3 and len(seconds) == max(seconds) - min(seconds) + 1

    wait_until(is_complete, 40, "another process continues, and every second has its event")
    assert _holder(headrace, "killed") != holder
    requests = headrace.sinks.requests("killed")
    seconds = {each.headers["ce-time"] for each in requests}
    assert len({each.headers["ce-id"] for each in requests}) == len(seconds)
    assert len(requests) - len(seconds) <= 2
    headrace.run_with(holder, ["--port", "0", "--instance", holder, *headrace.options_of_sources()])
    headrace.wait_until_ready(holder)
    headrace.delete(source)
