"""The table of values in the chart's README, from the comments in values.yaml.

A line `# -- text` describes the key below it: a plain value, or a list or map as a whole.
`python -m tests.chart.values_page` writes the table.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from tests.chart.rendering import CHART

PAGE = CHART / "README.md"
VALUES = CHART / "values.yaml"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+):")
_TEXT = re.compile(r"^ *# -- (?P<text>.+)$")
_TABLE = re.compile(r"^\| value \|.*\n(?:\|.*\n)+", re.MULTILINE)
_INDENT = 2


def described() -> dict[tuple[str, ...], str]:
    """The description of each key that has one."""
    found: dict[tuple[str, ...], str] = {}
    parents: list[str] = []
    text = ""
    for line in VALUES.read_text(encoding="utf-8").splitlines():
        if match := _TEXT.match(line):
            text = match["text"]
        elif match := _KEY.match(line):
            parents[len(match["indent"]) // _INDENT :] = [match["key"]]
            if text:
                found[tuple(parents)] = text
            text = ""
    return found


@cache
def defaults() -> Mapping[str, Any]:
    """The default values."""
    return dict(yaml.safe_load(VALUES.read_text(encoding="utf-8")))


def undescribed() -> list[str]:
    """The values that have no description, neither by themselves nor as part of a map."""
    known = described()
    return [
        ".".join(path)
        for path in _leaves(defaults(), ())
        if not any(path[:length] in known for length in range(1, len(path) + 1))
    ]


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    else:
        yield path


def table() -> str:
    """One row for each description."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, text in described().items():
        value: Any = defaults()
        for key in path:
            value = value[key]
        shown = f"`{json.dumps(value)}`" if value != "" else ""
        cells = (f"`{'.'.join(path)}`", shown, text)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """The README with the current table."""
    return _TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"), count=1)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
