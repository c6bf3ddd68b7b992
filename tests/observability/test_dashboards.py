"""The Grafana dashboards: complete, and about metrics that exist."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.observability.dashboards import FILES, dashboard, panels, queries
from tests.unit.tree.sources import metrics

PROCESS = {
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
every_dashboard = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_there_are_four_dashboards() -> None:
    """With different names and addresses."""
    assert ["controller", "dispatcher", "overview", "subscription"] == [file.stem for file in FILES]
    assert 4 == len({dashboard(file)["uid"] for file in FILES})
    assert 4 == len({dashboard(file)["title"] for file in FILES})


@every_dashboard
def test_each_panel_is_explained_and_has_a_unit(file: Path) -> None:
    """And a title of its own."""
    assert dashboard(file)["schemaVersion"] >= 39
    titles = Counter(panel["title"] for panel in panels(file))
    assert [] == [title for title, count in titles.items() if count > 1]
    for panel in panels(file):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


@every_dashboard
def test_each_query_uses_the_chosen_data_source_and_defined_variables(file: Path) -> None:
    """Those of panels, variables and annotations."""
    variables = dashboard(file)["templating"]["list"]
    assert "datasource" == variables[0]["name"]
    assert [SOURCE] * (len(variables) - 1) == [each["datasource"] for each in variables[1:]]
    assert all(SOURCE == panel["datasource"] for panel in panels(file))
    known = {each["name"] for each in variables} | {"__rate_interval"}
    used = {
        name
        for panel in panels(file)
        for target in panel["targets"]
        for name in re.findall(r"\$(\w+)", target["expr"])
    }
    assert used <= known
    assert known - {"datasource"} <= used | {"kind", "namespace"}
    assert "headrace" == variables[1]["name"]


@every_dashboard
def test_panels_do_not_overlap(file: Path) -> None:
    """Each cell of the grid has one panel, and each panel an id of its own."""
    every = dashboard(file)["panels"]
    cells = Counter(
        (x, y)
        for at in (panel["gridPos"] for panel in every)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    assert {1} == set(cells.values())
    assert 24 > max(x for x, _ in cells)
    assert len(every) == len({panel["id"] for panel in every})


@pytest.mark.parametrize(
    "histogram",
    ["headrace_ingress_stored_seconds", "headrace_attempt_seconds", "headrace_delivery_seconds"],
)
def test_latencies_of_events_have_their_traces_beside_them(histogram: str) -> None:
    """One query of each panel asks for exemplars: several would show them several times."""
    shown = [
        [target.get("exemplar", False) for target in panel["targets"]]
        for file in FILES
        for panel in panels(file)
        if any(f"{histogram}_bucket" in target["expr"] for target in panel["targets"])
    ]
    assert shown
    assert all(1 == sum(each) for each in shown), shown


def test_each_query_uses_metrics_that_exist() -> None:
    """As they are scraped."""
    named = {
        name
        for query in queries()
        for name in re.findall(r"\b(?:headrace|process)_\w+?(?=_bucket\b|\b)", query.expression)
    }
    assert set() == named - metrics() - PROCESS


def test_each_query_is_about_the_chosen_installations() -> None:
    """Those of panels, variables and annotations; the same name in two installations is not one
    subscription.
    """
    texts = [query.expression for query in queries()]
    for file in FILES:
        texts += [each["query"]["query"] for each in dashboard(file)["templating"]["list"][2:]]
        texts.append(dashboard(file)["annotations"]["list"][1]["expr"])
    for text in texts:
        selectors = re.findall(r"\b(?:headrace|process)_\w+(\{.*?\})?|(\{.*?\})", text)
        assert all('headrace=~"$headrace"' in "".join(each) for each in selectors), text
        assert "by (kind, namespace, name" not in text


def test_thresholds_are_those_of_the_alerts() -> None:
    """Where a panel and an alert are about the same value."""
    red = {
        (file.stem, panel["title"]): [
            step["value"]
            for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            if step["color"] == "red"
        ]
        for file in FILES
        for panel in panels(file)
    }
    assert [0.05] == red["overview", "Refused with 503"]
    assert [300] == red["overview", "Largest lag"] == red["subscription", "Lag"]
    assert [0.5] == red["overview", "Retention used"] == red["subscription", "Retention used"]
    assert [0.05] == red["dispatcher", "Kafka errors"]
    assert [1] == red["dispatcher", "Time until Kafka has stored a record"]
    assert [10] == red["subscription", "Partitions and rebalances"]
