"""A real Prometheus that scrapes a running Headrace evaluates every expression of every dashboard
and alert: none fails, and each panel shows data.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_sources import ADAPTER, ping, to_broker
from tests.observability.alerts import FILE, alerts
from tests.observability.dashboards import FILES, Query, dashboard, queries
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.installations import installation
from tests.support.manifests import broker, trigger
from tests.support.prometheus import BINARY, UNPROVEN, Prometheus
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "outside"
VARIABLES = {
    "__rate_interval": "10s",
    "headrace": "outside/headrace",
    "instance": ".*",
    "job": ".*",
    "kind": ".*",
    "name": ".*",
    "namespace": NAMESPACE,
}
DELAYS = {"10s": "PT15S", "1m": "PT2M", "10m": "PT15M", "1h": "PT2H"}
"""The wait before a retry, by the delay topic that it leads to."""
DATA_SECONDS = 60.0

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(180),
    pytest.mark.skipif(BINARY is None, reason=UNPROVEN),
]


@dataclass
class Monitored:
    """An installation with traffic, and the Prometheus that scrapes it."""

    headrace: HeadraceUnderTest
    prometheus: Prometheus
    sent: int = 0
    unanswered: list[Query] = field(default_factory=queries)
    """Queries that have not returned data yet."""

    def send(self) -> None:
        """Send a few events, one of which is refused."""
        for _ in range(4):
            self.sent += 1
            headers = {
                "ce-specversion": "1.0",
                "ce-id": str(self.sent),
                "ce-source": "/monitoring",
                "ce-type": "order.created",
                "content-type": "application/json",
            }
            assert 202 == self.headrace.post(f"/{NAMESPACE}/default", headers, b"{}")
        assert 400 == self.headrace.post(f"/{NAMESPACE}/default", {"ce-id": "no type"}, b"{}")

    def every_query_has_data(self) -> bool:
        """Send events, then repeat the queries that have returned no data so far."""
        self.send()
        self.unanswered = [each for each in self.unanswered if not self._has_data(each)]
        return not self.unanswered

    def _has_data(self, query: Query) -> bool:
        values = self.prometheus.query(query.with_variables(VARIABLES))
        return any(math.isfinite(value) for value in values)


@pytest.fixture(scope="module")
def monitored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitored]:
    """Subscribers that accept, fail or are down; retries of every tier; dead letters; a source."""
    directory = tmp_path_factory.mktemp("monitoring")
    env = {**ADAPTER, "HEADRACE_MANAGEMENT_KNATIVE_METRICS": "true"}
    with installation("apache", request, directory, env=env, sources=1) as headrace:
        targets = {
            name: headrace.management_url(name).removeprefix("http://")
            for name in headrace.services
        }
        prometheus = Prometheus(
            headrace.processes,
            directory / "prometheus",
            targets=targets,
            labels={"headrace": VARIABLES["headrace"]},
            rules=[FILE],
        )
        headrace.sinks.script("failing", Script(status=500))
        headrace.sinks.script("down", Script(status=503))
        failing, dead = headrace.sinks.url("failing"), headrace.sinks.url("dead")
        once = {"retry": 1, "backoffDelay": "PT0.1S", "deadLetterSink": {"uri": dead}}
        unsunk = {"retry": 0}
        own = [
            trigger(NAMESPACE, "accepting", headrace.sinks.url("accepting")),
            trigger(NAMESPACE, "filtering", failing, attributes={"type": "other"}),
            trigger(NAMESPACE, "failing", failing, delivery=once),
            trigger(NAMESPACE, "unsunk", failing, delivery=unsunk),
            trigger(NAMESPACE, "down", headrace.sinks.url("down")),
            *(
                trigger(
                    NAMESPACE,
                    f"waiting-{tier}",
                    failing,
                    delivery={"retry": 9, "backoffPolicy": "linear", "backoffDelay": delay}
                    | {"backoffMax": "PT4H"},
                )
                for tier, delay in DELAYS.items()
            ),
        ]
        headrace.apply(broker(NAMESPACE), *own, ping("counted", to_broker("default")))
        headrace.wait_ready(*own, ping("counted", to_broker("default")))
        yield Monitored(headrace, prometheus)


def test_every_query_of_every_dashboard_returns_data(monitored: Monitored) -> None:
    """With the variables set to all values, and without an error."""
    with contextlib.suppress(AssertionError):
        wait_until(monitored.every_query_has_data, DATA_SECONDS, "every query has data")
    assert [] == [str(query) for query in monitored.unanswered]


@pytest.mark.parametrize(
    "query",
    [
        # Kafka Broker up to 1.20: receiver, then dispatcher.
        'sum(rate(event_count_1_total{consumer_name="", response_code_class="2xx",'
        ' namespace_name=~"outside"}[10s]))',
        'sum(rate(event_count_1_total{consumer_name="", response_code_class!="2xx",'
        ' namespace_name=~"outside"}[10s]))',
        'sum(rate(event_count_1_total{consumer_name!="", response_code_class="5xx"}[10s]))'
        " by (name, namespace_name)",
        "histogram_quantile(0.95, sum(rate(event_dispatch_latencies_ms_bucket{"
        'consumer_name="accepting"}[10s])) by (le))',
        'sum(rate(event_dispatch_latencies_ms_bucket{le="100.0", consumer_name=""}[10s]))'
        " by (name, namespace_name)"
        ' / sum(rate(event_dispatch_latencies_ms_count{consumer_name=""}[10s]))'
        " by (name, namespace_name)",
        # Since 1.21.
        'sum(rate(kn_eventing_dispatch_latency_ms_count{kn_broker_namespace="outside"}[10s]))',
        'sum(rate(kn_eventing_dispatch_latency_ms_count{kn_trigger_namespace="outside",'
        ' http_response_status_code!~"2.*"}[10s])) by (http_response_status_code)',
        "histogram_quantile(0.99, sum(rate(kn_eventing_dispatch_latency_ms_bucket{"
        'kn_trigger_namespace="outside"}[10s])) by (le))',
        # Broker over channels.
        "sum(rate(kn_eventing_dispatch_duration_seconds_count{"
        'kn_broker_namespace="outside", http_response_status_code=~"2.*"}[10s]))',
        "histogram_quantile(0.99, sum(rate(kn_eventing_dispatch_duration_seconds_bucket{"
        'messaging_destination_name="trigger:accepting.outside"}[10s])) by (le))',
    ],
)
def test_queries_of_knatives_dashboards_return_data(monitored: Monitored, query: str) -> None:
    """With the labels of Headrace in place of the job, by which Knative's processes differ."""

    def has_data() -> bool:
        monitored.send()
        return any(math.isfinite(value) for value in monitored.prometheus.query(query))

    wait_until(has_data, DATA_SECONDS, f"{query} has data")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_variable_of_a_dashboard_has_values(monitored: Monitored, file: Path) -> None:
    """Those that Grafana reads from Prometheus."""
    for variable in dashboard(file)["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert found is not None
            _wait_for_label(monitored.prometheus, found[1], found[2])


def _wait_for_label(prometheus: Prometheus, selector: str, label: str) -> None:
    selector = re.sub(r"\$(\w+)", lambda name: VARIABLES[name[1]], selector)
    wait_until(
        lambda: any(label in each for each in prometheus.series(selector)),
        10.0,
        f"{selector} has the label {label}",
    )


def test_every_alert_rule_is_evaluated_without_an_error(monitored: Monitored) -> None:
    """By the server itself, and alone through its API."""

    def evaluated() -> bool:
        return all(each["health"] != "unknown" for each in monitored.prometheus.rules())

    wait_until(evaluated, 10.0, "each rule is evaluated")
    rules = monitored.prometheus.rules()
    assert {each.name for each in alerts()} == {each["name"] for each in rules}
    assert [] == [each["lastError"] for each in rules if each["health"] != "ok"]
    for alert in alerts():
        monitored.prometheus.query(alert.expression)


def test_alerts_fire_for_what_is_wrong_and_say_what_it_is(monitored: Monitored) -> None:
    """Dead letters, with their Trigger and the next command; nothing fires for the Trigger whose
    subscriber accepts, and no process is unavailable.
    """
    description = "headrace dead-letters trigger/failing -n outside"

    def firing() -> list[dict[str, Any]]:
        found = monitored.prometheus.get("alerts")["alerts"]
        return [each for each in found if each["state"] == "firing"]

    def dead_letters_reported() -> bool:
        monitored.send()
        return any(each["annotations"]["description"].endswith(description) for each in firing())

    wait_until(dead_letters_reported, DATA_SECONDS, "the alert about dead letters fires")
    names = {each["labels"]["alertname"] for each in firing()}
    assert {"HeadraceDeadLettersGrowing"} == names
    assert [] == [each for each in firing() if each["labels"].get("name") == "accepting"]


def test_the_breaker_of_a_subscriber_that_is_down_is_seen(monitored: Monitored) -> None:
    """The expression of its alert has a result; the alert itself waits for 10 minutes."""
    (alert,) = (each for each in alerts() if each.name == "HeadraceBreakerOpen")

    def seen() -> bool:
        monitored.send()
        return monitored.prometheus.query(alert.expression) == [1.0]

    wait_until(seen, DATA_SECONDS, "the breaker is open")
