"""The alert rules of the chart, and the pages about them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.unit.tree.sources import ROOT

FILE = ROOT / "charts/headrace/files/alerts/headrace.yaml"
RULE_TESTS = Path(__file__).parent / "rules"
RUNBOOKS = ROOT / "docs/runbooks"


@dataclass(frozen=True)
class Alert:
    """One alert rule."""

    name: str
    expression: str
    labels: dict[str, str]
    annotations: dict[str, str]


@cache
def alerts() -> tuple[Alert, ...]:
    """Every alert rule, in the order of the file."""
    groups: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
    return tuple(
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    )
