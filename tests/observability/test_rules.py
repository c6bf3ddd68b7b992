"""The alert rules: each fires in one case and is silent in another, and names what exists."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.observability.alerts import FILE, RULE_TESTS, Alert, alerts
from tests.unit.tree.sources import metrics

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="no promtool (Debian: apt-get install prometheus): alert rules are not evaluated",
)
NAMES = [each.name for each in alerts()]


def _run(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@promtool
def test_prometheus_accepts_the_rules() -> None:
    """Expressions and templates."""
    _run("check", "rules", FILE)


@promtool
@pytest.mark.parametrize("file", sorted(RULE_TESTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_alert_fires_when_it_should(file: Path) -> None:
    """And not when it should not."""
    _run("test", "rules", file)


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(name: str) -> None:
    """In the tests of the rules."""
    fires = {fires for expression, fires in _cases() if f'"{name}"' in expression}
    assert {True, False} == fires


@cache
def _cases() -> tuple[tuple[str, bool], ...]:
    """The expression of each check, and whether something fires."""
    return tuple(
        (check["expr"], bool(check["exp_samples"]))
        for file in RULE_TESTS.glob("*.yaml")
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for check in case["promql_expr_test"]
    )


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_each_alert_uses_metrics_that_exist(alert: Alert) -> None:
    """As they are scraped."""
    named = set(re.findall(r"\bheadrace_\w+?(?=_bucket\b|\b)", alert.expression))
    assert named <= metrics()


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_each_alert_distinguishes_installations(alert: Alert) -> None:
    """Wherever it adds up or compares: by the label of the targets."""
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", alert.expression)
    assert [] == [each for each in grouped if "headrace" not in each.split(", ")]
    aggregations = re.findall(
        r"\b(?:sum|max|min|count|avg|topk|scalar)\b *(?!by)\(", alert.expression
    )
    assert [] == aggregations


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_each_alert_says_what_is_wrong_and_what_to_do_next(alert: Alert) -> None:
    """With the subscription, where its expression has one, and the next step."""
    assert alert.labels["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook_url"} == set(alert.annotations)
    assert "Next: " in alert.annotations["description"]
    if re.search(r"by \(kind, namespace, name", alert.expression):
        assert {"kind", "namespace", "name"} <= set(
            re.findall(r"\$labels\.(\w+)", alert.annotations["description"])
        )
