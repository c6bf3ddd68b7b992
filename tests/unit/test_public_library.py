"""The public library as its users meet it: examples run, types are complete, names are the ones
promised, and nothing outside of the standard library is imported.
"""

import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.cloudevents import InvalidEvent

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/library/forward.py"
MODULES = ("headrace.cesql", "headrace.cloudevents", "headrace.filters")
PROMISED = {
    "headrace.cesql": {
        "BUILT_IN",
        "DEPTH_MAX",
        "EXPRESSION_LENGTH_MAX",
        "NODES_MAX",
        "STRING_LENGTH_MAX",
        "Attributes",
        "ErrorKind",
        "EvaluationError",
        "Expression",
        "Function",
        "Functions",
        "ParseError",
        "Problem",
        "Result",
        "Type",
        "Value",
        "compile",
        "evaluate",
        "with_functions",
    },
    "headrace.cloudevents": {
        "EVENTS_MAX",
        "BatchTooLarge",
        "ContentMode",
        "Event",
        "HttpHeaders",
        "HttpMessage",
        "InvalidEvent",
        "Record",
        "UnsupportedContent",
        "Value",
        "read_http",
        "read_http_batch",
        "read_kafka",
        "write_http",
        "write_http_batch",
        "write_kafka",
    },
    "headrace.filters": {
        "CLAUSES_MAX",
        "DEPTH_MAX",
        "TEXT_LENGTH_MAX",
        "Explanation",
        "FieldError",
        "Filter",
        "InvalidFilter",
        "compile",
        "compile_trigger",
        "remarks",
        "validate",
    },
}
"""A name may be added here, and may not be removed before the next major version."""
ORDER = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "order.created",
    "amount": "1500",
}
SHOW_IMPORTS = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "src")!r})
before = set(sys.modules)
import {", ".join(MODULES)}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_right(name: str) -> None:
    """Every `>>>` of the module's docstrings, and there is at least one in each function."""
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
    assert [] == [each for each in _functions(module) if ">>>" not in (each.__doc__ or "")]


def _functions(module: ModuleType) -> list[object]:
    exported = [getattr(module, name) for name in module.__all__]
    return [
        each
        for each in exported
        if callable(each)
        and getattr(each, "__module__", "") == module.__name__
        and not isinstance(each, type)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_the_names_are_the_ones_promised(name: str) -> None:
    """`__all__` is what `from … import *` gives, and exactly the promise."""
    module = importlib.import_module(name)
    assert PROMISED[name] == set(module.__all__)
    assert [] == [each for each in module.__all__ if not hasattr(module, each)]


def test_they_import_the_standard_library_only() -> None:
    """In an interpreter without site packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", SHOW_IMPORTS],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert {"headrace"} == imported - set(sys.stdlib_module_names)


def test_the_example_runs() -> None:
    """examples/library/forward.py prints the record of a large order."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "ce_priority: high" in lines
    assert '{"order": 1}' == lines[-1]


def test_the_example_in_the_readme_works() -> None:
    """Its function takes an event; an invalid one raises."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    headers = {f"ce-{name}": value for name, value in ORDER.items()}
    names["handle"](headers, b"{}")
    with pytest.raises(InvalidEvent):
        names["handle"]({}, b"{}")


def test_the_example_has_complete_types(tmp_path: Path) -> None:
    """`mypy --strict` with no configuration of the project, as a user of the package runs it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", ""),
            *("--cache-dir", str(tmp_path), "--follow-imports", "silent", str(EXAMPLE)),
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
