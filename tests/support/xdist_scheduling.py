"""How the suite is shared out among processes (`pytest -n`): file by file, the longest first, and
what measures time one after the other.

A file stays on one process, because its tests share what is dear: a world, a Kafka. Two exceptions
are named here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

LEDGER = "tests/chaos/test_ledger_run.py"
TOGETHER: Sequence[tuple[str, str]] = (
    (f"{LEDGER}::test_nothing_is_lost_under_the_new_group_protocol", "second ledger run"),
    (LEDGER, "timed"),
    ("tests/integration/test_lifecycle.py", "timed"),
    ("tests/conformance/test_both_modes.py", "cluster"),
    ("tests/conformance/test_crds_enforced.py", "cluster"),
    ("tests/contract/test_store", "cluster"),
    ("tests/integration/test_kubernetes_store.py", "cluster"),
)
"""Which tests, by the beginning of their id, go together under which name; the first that fits.

The long ledger run and the life cycle measure rates and latencies: side by side they would measure
each other. What needs an API server shares one.
"""
FIRST = (
    "timed",
    "tests/chaos/test_failpoints.py",
    "cluster",
    "tests/upgrade/",
    "tests/contract/",
    "second ledger run",
    "tests/integration/",
)
"""What begins first, by the beginning of its name, the longest before the others; the rest as
collected.

What waits long must not begin last, and beside it the pure tests have the processors.
"""


def scope_of(nodeid: str) -> str:
    """The name under which a test goes to a process, together with all others of that name."""
    return next(
        (name for prefix, name in TOGETHER if nodeid.startswith(prefix)), nodeid.partition("::")[0]
    )


def rank(scope: str) -> int:
    """When a scope begins: the lower the sooner."""
    return next(
        (number for number, prefix in enumerate(FIRST) if scope.startswith(prefix)), len(FIRST)
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of several, put the tests in the order in which they are handed out; alone they
    stay as collected.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(scope_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling":
    """Hand out whole scopes, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ScopedScheduling(LoadScopeScheduling):  # type: ignore[misc]  # untyped
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    options: Any = config.option
    options.loadscopereorder = False
    return ScopedScheduling(config, log)
