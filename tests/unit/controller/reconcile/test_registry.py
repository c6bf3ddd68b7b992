"""The example roles of the controller in a cluster grant what the registered kinds need."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_controller.reconcile.kinds import RECONCILERS
from tests.support.roles import rules_of

EXAMPLES = Path(__file__).parents[4] / "examples" / "kubernetes"


def _granted(example: str) -> Iterator[tuple[str, str, str]]:
    for document in yaml.safe_load_all((EXAMPLES / example).read_text()):
        if document["metadata"]["name"] == "headrace-controller":
            yield from _flat(document.get("rules", []))


def _flat(rules: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


@pytest.mark.parametrize(
    ("example", "needed"),
    [
        (example, needed)
        for example, reconcilers in (
            ("rbac.yaml", RECONCILERS),
            # A controller of some namespaces leaves alone what is in none.
            ("rbac-namespaced.yaml", RECONCILERS.namespaced()),
        )
        for needed in sorted(_flat(rules_of(reconcilers)))
    ],
)
def test_the_roles_let_the_controller_do_what_its_kinds_need(
    needed: tuple[str, str, str], example: str
) -> None:
    """A kind that is registered without its rule would stop every controller in a cluster."""
    assert needed in set(_granted(example))
