"""How the suite is distributed over processes (`pytest -n`): file by file, the longest first, and
tests that measure time one after the other, with one other process beside them.

A file stays on one process, because its tests share expensive fixtures: an installation, a Kafka.
The exceptions are listed here, and so are the files that share one installation.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling
    from xdist.workermanage import WorkerController

TIMED = "timed"
BESIDE_TIMED = 2
"""How many processes run tests until those that measure time are done: as many as CI has cores."""
CLUSTER = "cluster"
TOGETHER: Sequence[tuple[str, str]] = (
    ("tests/chaos/", TIMED),
    ("tests/integration/test_lifecycle.py", TIMED),
    *(
        (f"tests/{path}.py", CLUSTER)
        for path in (
            "conformance/test_admission_policies",
            "conformance/test_both_modes",
            "conformance/test_crds_enforced",
            "conformance/test_roles",
            "integration/test_foreign_channels",
            "integration/test_kubernetes_adapter",
            "integration/test_kubernetes_store",
            "integration/test_new_kind",
        )
    ),
)
"""Which tests, by the prefix of their id, run together under which name; the first match counts.

The runs with a ledger and the lifecycle tests measure rates and latencies: in parallel they would
measure each other. Tests that need a Kubernetes API server share one, with those that run in each
place: an API server for each process would use a twentieth of the processor.
"""
SHARED_INSTALLATION = tuple(
    f"tests/integration/test_{name}.py"
    for name in (
        "flows",
        "github_source",
        "kafka_sink",
        "kafka_source_resources",
        "legacy",
        "ping_source",
        "pubsub_sources",
        "sqs_sources",
        "webhook_source",
    )
)
"""Files whose tests use the fixture `everywhere`."""
_PLACE = re.compile(r"[\[-](apache|kubernetes|embedded)(?=[]-])")
FIRST = (
    TIMED,
    "tests/unit/",
    "tests/property/",
    CLUSTER,
    "shared",
    "tests/upgrade/",
    "tests/contract/",
    "tests/integration/",
)
"""What starts first, by the prefix of its name, the longest before the others; the rest as
collected.

The tests that measure time start many processes. The tests that need one processor and no other
process run beside them, and then what starts processes too.
"""


def scope_of(nodeid: str) -> str:
    """The name under which a test is assigned to a process, together with all others of
    that name.
    """
    place = _PLACE.search(nodeid)
    if place and place.group(1) == "kubernetes":
        return CLUSTER
    if place and uses_shared_installation(nodeid):
        return f"shared {place.group(1)}"
    return next(
        (name for prefix, name in TOGETHER if nodeid.startswith(prefix)), nodeid.partition("::")[0]
    )


def uses_shared_installation(nodeid: str) -> bool:
    """Whether a test is in a file that shares an installation with others."""
    return nodeid.startswith(SHARED_INSTALLATION)


def rank(scope: str) -> int:
    """When a scope starts: the lower the earlier."""
    return next(
        (number for number, prefix in enumerate(FIRST) if scope.startswith(prefix)), len(FIRST)
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker process, sort the tests into the order in which they are distributed; without
    workers they stay as collected.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(scope_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling":
    """Distribute whole scopes, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ScopedScheduling(LoadScopeScheduling):  # type: ignore[misc]  # untyped
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

        def _assign_work_unit(self, node: "WorkerController") -> None:
            if node not in self._waiting():
                super()._assign_work_unit(node)

        def mark_test_complete(
            self, node: "WorkerController", item_index: int, duration: float = 0
        ) -> None:
            waited = self._waiting()
            super().mark_test_complete(node, item_index, duration)
            if waited and not self._waiting():
                # Two units: a process needs to know the test after the one that it runs.
                for each in waited * 2:
                    self._reschedule(each)

        def _waiting(self) -> list["WorkerController"]:
            """The processes that have no tests until those that measure time are done."""
            units = (self.workqueue, *self.assigned_work.values())
            done = all(all(unit.get(TIMED, {}).values()) for unit in units)
            return [] if done else self.nodes[BESIDE_TIMED:]

    options: Any = config.option
    options.loadscopereorder = False
    return ScopedScheduling(config, log)
