"""The tables of docs/settings.md, from the settings themselves.

`python -m tests.unit.tree.settings_page` writes the page.
"""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any, get_type_hints

from headrace.runtime.settings import (
    Ge,
    Gt,
    KafkaSettings,
    Le,
    LogSettings,
    ManagementSettings,
    NatsSettings,
    Settings,
    Variables,
)
from headrace_cli.in_memory_settings import InMemorySettings
from headrace_controller.settings import ControllerSettings, KubernetesSettings
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingress.settings import IngressSettings
from headrace_sources.settings import SourcesSettings
from tests.unit.tree.sources import ROOT

PAGE = ROOT / "docs" / "settings.md"
KINDS: dict[type[Settings], str] = {
    KafkaSettings: "Kafka, for every service",
    NatsSettings: "NATS, for every service",
    LogSettings: "Logs, for every service",
    ManagementSettings: "Management port, for every service",
    IngressSettings: "Ingress",
    DispatcherSettings: "Dispatcher",
    InMemorySettings: "In-memory channels",
    SourcesSettings: "Sources",
    ControllerSettings: "Controller",
    KubernetesSettings: "Controller in a cluster",
}
_HEAD = """# Settings

Every setting of the services, with its environment variable. An option of the command line
(`headrace ingress --help`) counts before the variable, and the variable before the default. A
service refuses to start with a value outside of the limits, and with a variable `HEADRACE_*` that
nothing in Headrace reads; the error names the nearest variable.

`headrace config show ingress` shows the settings with which a service would start in this shell's
environment, and where each comes from; `/configz` on the management port shows those of a process
that runs. Secrets are in files, so both show a path; the password of a URL is left out.

This page is written from the code by `python -m tests.unit.tree.settings_page`, and a test compares
the two.
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"\n## {title}\n\n{table(kind)}" for kind, title in KINDS.items())


def table(kind: type[Settings]) -> str:
    """One kind of settings: a row for each."""
    hints, meanings = get_type_hints(kind, include_extras=True), _meanings(kind)
    rows = ["| variable | default | limits | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        marks = getattr(hints[field.name], "__metadata__", ())
        names = next(
            (mark.names for mark in marks if isinstance(mark, Variables)),
            (f"{kind.env_prefix}{field.name.upper()}",),
        )
        cells = (
            " or ".join(f"`{name}`" for name in names),
            _default(field.default),
            _limits(marks),
            meanings[field.name],
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _limits(marks: tuple[Any, ...]) -> str:
    bounds = [
        f"{sign} {mark.__getattribute__(name)}"
        for mark in marks
        for kind, name, sign in _BOUNDS
        if isinstance(mark, kind)
    ]
    return ", ".join(bounds)


_BOUNDS = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"))


def _meanings(kind: type[Settings]) -> dict[str, str]:
    """The description below each field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
        ):
            found[statement.target.id] = " ".join(str(ast.literal_eval(following.value)).split())
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
