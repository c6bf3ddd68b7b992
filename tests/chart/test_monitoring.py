"""Metrics: what Prometheus, Grafana, KEDA and gateways get from the chart. Their CRDs are not here,
so the fields are compared with those that the definitions have.
"""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, ROOT, named, objects, of_kind, services
from tests.unit.tree.sources import metrics

RULES = sorted((CHART / "files" / "alerts").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
DOCUMENTATION = "https://docs.example.com/headrace"
DOCUMENTATION_SECONDS = 120
_SUFFIXES = re.compile(r"_(bucket|count|sum)$")


def _spec(value_set: str, kind: str, name: str) -> dict[str, Any]:
    return dict(named(value_set, kind, name)["spec"])


@pytest.mark.parametrize(
    ("value_set", "kind", "name", "endpoints"),
    [
        ("everything", "PodMonitor", "headrace-events-metrics", "podMetricsEndpoints"),
        ("legacy", "ServiceMonitor", "headrace-metrics", "endpoints"),
    ],
)
def test_every_pod_is_scraped(value_set: str, kind: str, name: str, endpoints: str) -> None:
    """On its management port; the labels of Triggers and Brokers are not replaced."""
    spec = _spec(value_set, kind, name)
    assert {"selector", "podTargetLabels", endpoints} == set(spec)
    installation = f"knative-eventing/{name.removesuffix('-metrics')}"
    assert [
        {
            "port": "management",
            "path": "/metrics",
            "interval": "30s",
            "honorLabels": True,
            "relabelings": [{"targetLabel": "headrace", "replacement": installation}],
        }
    ] == spec[endpoints]
    assert "prometheus" == named(value_set, kind, name)["metadata"]["labels"]["release"]


def test_the_service_monitor_has_its_service() -> None:
    """Without a cluster address, for pods of every component."""
    monitor, service = (
        named("legacy", kind, "headrace-metrics") for kind in ("ServiceMonitor", "Service")
    )
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert "None" == service["spec"]["clusterIP"]
    assert "management" == service["spec"]["ports"][0]["name"]
    others = [each for each in of_kind("legacy", "Service") if each is not service]
    assert not any(wanted.items() <= each["metadata"]["labels"].items() for each in others)


def test_rules_are_rendered_with_their_runbooks() -> None:
    """Otherwise unchanged; the templates of Prometheus in them too."""
    texts = [each.read_text(encoding="utf-8") for each in RULES]
    expected = [group for each in texts for group in yaml.safe_load(each)["groups"]]
    for group in expected:
        for rule in group["rules"]:
            rule["annotations"]["runbook_url"] = f"{DOCUMENTATION}/runbooks/{rule['alert']}/"
    assert expected == _spec("everything", "PrometheusRule", "headrace-events-alerts")["groups"]


@pytest.mark.timeout(DOCUMENTATION_SECONDS)
def test_the_runbooks_are_pages_of_the_documentation() -> None:
    """As `make docs` builds it: each address of a rendered rule has a page, with its title."""
    done = subprocess.run(
        ["make", "docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DOCUMENTATION_SECONDS,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    for group in _spec("everything", "PrometheusRule", "headrace-events-alerts")["groups"]:
        for rule in group["rules"]:
            path = rule["annotations"]["runbook_url"].removeprefix(f"{DOCUMENTATION}/")
            page = ROOT / "build/docs/site" / path / "index.html"
            assert f"<title>{rule['alert']} - Headrace</title>" in page.read_text(encoding="utf-8")


def _expressions() -> list[tuple[str, str]]:
    return [
        (rule["alert"], rule["expr"])
        for path in RULES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


@pytest.mark.parametrize(("alert", "expression"), _expressions())
def test_alerts_are_about_metrics_that_exist(alert: str, expression: str) -> None:
    """By the names that the services export."""
    assert alert.startswith("Headrace")
    names = set(re.findall(r"\bheadrace_\w+", expression))
    assert names
    assert set() == {_SUFFIXES.sub("", name) for name in names} - metrics()


def test_dashboards_are_rendered_unchanged() -> None:
    """One ConfigMap for each, with the label that Grafana's sidecar looks for."""
    found = of_kind("everything", "ConfigMap")
    texts = {key: text for each in found for key, text in each["data"].items()}
    assert {each.name for each in DASHBOARDS} == set(texts)
    for path in DASHBOARDS:
        assert json.loads(path.read_text(encoding="utf-8")) == json.loads(texts[path.name])
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in found)


def test_dispatchers_are_scaled_by_their_lag_in_seconds() -> None:
    """With the metric that the dispatcher exports."""
    spec = _spec("everything", "ScaledObject", "headrace-events-dispatcher")
    assert {
        "scaleTargetRef",
        "pollingInterval",
        "minReplicaCount",
        "maxReplicaCount",
        "advanced",
        "triggers",
    } == set(spec)
    assert {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "headrace-events-dispatcher",
    } == spec["scaleTargetRef"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert {"scaleDown": {"stabilizationWindowSeconds": 300}} == behavior
    [trigger] = spec["triggers"]
    assert ("prometheus", "AverageValue") == (trigger["type"], trigger["metricType"])
    assert {
        "serverAddress": "http://prometheus.monitoring.svc:9090",
        "query": 'max(headrace_lag_seconds{headrace="knative-eventing/headrace-events"})',
        "threshold": "10",
    } == trigger["metadata"]
    assert "headrace_lag_seconds" in metrics()


def test_the_label_of_the_installation_can_be_set() -> None:
    """For the monitor and the query of KEDA alike, where two clusters have the same names."""
    options = ("--set", "metrics.installation=paris/headrace")
    found = {each["kind"]: each for each in objects("everything", *options)}
    [endpoint] = found["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert "paris/headrace" == endpoint["relabelings"][0]["replacement"]
    [trigger] = found["ScaledObject"]["spec"]["triggers"]
    assert 'max(headrace_lag_seconds{headrace="paris/headrace"})' == trigger["metadata"]["query"]


def test_the_ingress_is_scaled_by_its_processor_time() -> None:
    """Which its request must say."""
    [metric] = _spec("everything", "HorizontalPodAutoscaler", "headrace-events-ingress")["metrics"]
    assert {"type": "Utilization", "averageUtilization": 70} == metric["resource"]["target"]
    assert "cpu" in services("everything")["ingress"]["resources"]["requests"]


def test_the_route_of_the_gateway_api() -> None:
    """From the gateways to the Service of the ingress."""
    spec = _spec("everything", "HTTPRoute", "headrace-events-ingress")
    assert {
        "parentRefs": [{"name": "public", "namespace": "gateways"}],
        "hostnames": ["events.example.com"],
        "rules": [{"backendRefs": [{"name": "headrace-events-ingress", "port": 80}]}],
    } == spec


@pytest.mark.parametrize("value_set", ["default", "standalone"])
def test_what_needs_other_definitions_is_off(value_set: str) -> None:
    """A cluster without these operators takes the chart."""
    kinds = ("PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute")
    assert [] == of_kind(value_set, *kinds)
