"""The Grafana dashboards of the chart."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.unit.tree.sources import ROOT

DIRECTORY = ROOT / "charts/headrace/files/dashboards"
FILES = sorted(DIRECTORY.glob("*.json"))


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    dashboard: str
    panel: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expression}"

    def with_variables(self, values: Mapping[str, str]) -> str:
        """Return the expression as Grafana would send it. Raises KeyError for a variable without a
        value.
        """
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], self.expression)


@cache
def dashboard(file: Path) -> dict[str, Any]:
    """Return a dashboard."""
    read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return read


def panels(file: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without rows."""
    return [each for each in dashboard(file)["panels"] if each["type"] != "row"]


def queries() -> list[Query]:
    """Return the queries of all panels."""
    return [
        Query(file.stem, panel["title"], target["expr"])
        for file in FILES
        for panel in panels(file)
        for target in panel["targets"]
    ]
