"""The clauses of the Knative Eventing specification, what Headrace does about each, and the tests
that carry its number.

`python -m tests.conformance.clauses` writes docs/conformance.md. A test claims a clause with
`@pytest.mark.clause("D3")`; the numbers are those of a condensed list of knative/specs (data plane
D, Broker B, Trigger T, Channel C, Subscription S, destination R, event delivery E, fields F,
conditions X, sources O). Rows named in words are no clauses but what users of Knative expect.
"""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CLAUSES = Path(__file__).with_name("clauses.yaml")
TABLE = ROOT / "docs" / "conformance.md"


class Verdict(StrEnum):
    """How a clause is met."""

    YES = "yes"
    BETTER = "better"
    """Headrace guarantees more than the clause."""
    NO = "no"
    """Intentional; the remark says what happens instead."""
    LATER = "later"
    """Not implemented yet."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One row."""

    number: str
    what: str
    verdict: Verdict
    level: str = ""
    remark: str = ""


def read_clauses() -> Mapping[str, Sequence[Clause]]:
    """The clauses by section."""
    found = yaml.safe_load(CLAUSES.read_text())
    return {
        title: [Clause(**{**each, "verdict": Verdict(each["verdict"])}) for each in clauses]
        for title, clauses in found.items()
    }


SECTIONS = read_clauses()
HEAD = """# Conformance

Self-declared against the Knative Eventing specification (knative/specs, snapshot of 2026-04-28;
Knative has no certification for Eventing) and CloudEvents 1.0.x. A row names the clause in short,
what Headrace does, and the tests for it: they are marked with the clause's number, and this page is
generated from them (`python -m tests.conformance.clauses`). **yes**, **better** (Headrace
guarantees more than the clause), **no** (intentional, with what happens instead), **later** (not
implemented yet).
"""


def claims(root: Path = ROOT / "tests") -> Mapping[str, Sequence[str]]:
    """By clause, the tests that claim it, as `file::test`."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("test_*.py")):
        text = path.read_text()
        if "mark.clause" not in text:
            continue
        for test, number in _claims_in(ast.parse(text)):
            found.setdefault(number, []).append(
                f"{path.relative_to(root)}::{test}" if test else str(path.relative_to(root))
            )
    return found


def _claims_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    """(test, clause) of every mark; a mark of the whole module has no test."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                yield from ((node.name, number) for number in _numbers(decorator))
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets
        ):
            values = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            yield from (("", number) for value in values for number in _numbers(value))


def _numbers(mark: ast.expr) -> list[str]:
    if not (
        isinstance(mark, ast.Call)
        and isinstance(mark.func, ast.Attribute)
        and mark.func.attr == "clause"
    ):
        return []
    return [str(argument.value) for argument in mark.args if isinstance(argument, ast.Constant)]


def table() -> str:
    """The page."""
    found = claims()
    parts = [HEAD]
    for title, clauses in SECTIONS.items():
        parts.append(
            f"\n## {title}\n\n| clause | | what Headrace does | tests |\n|---|---|---|---|\n"
        )
        parts += [_row(clause, found.get(clause.number, ())) for clause in clauses]
    return "".join(parts)


def _row(clause: Clause, tests: Sequence[str]) -> str:
    named = f"**{clause.number}** {clause.what}" + (f" ({clause.level})" if clause.level else "")
    shown = ", ".join(f"`{test}`" for test in tests)
    return f"| {named} | {clause.verdict.value} | {clause.remark} | {shown} |\n"


def main() -> int:
    """Write the page."""
    TABLE.write_text(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
