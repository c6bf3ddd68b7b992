"""The names of the metrics that production code defines."""

import ast
from collections.abc import Mapping
from functools import cache

from tests.unit.tree.sources import modules

KINDS = ("counter", "gauge", "histogram")


@cache
def metric_kinds() -> Mapping[str, str]:
    """The kind of each metric, by its name as it is scraped; if the first part is a variable, with
    each possible prefix.
    """
    found = {}
    for module in modules().values():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                kind, name = (
                    node.func.attr,
                    ast.unparse(node.args[0]).removeprefix("f").strip("'\""),
                )
                if kind in KINDS:
                    total = "_total" if kind == "counter" else ""
                    for prefix in ("ingress", "management"):
                        found[f"headrace_{name.replace('{prefix}', prefix)}{total}"] = kind
    return found


def metric_names() -> frozenset[str]:
    """The names of all metrics."""
    return frozenset(metric_kinds())


def series_names() -> frozenset[str]:
    """The names of all time series: those of a histogram have a suffix."""
    return frozenset(
        name + suffix
        for name, kind in metric_kinds().items()
        for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    )
