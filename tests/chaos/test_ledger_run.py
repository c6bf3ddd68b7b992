"""The ledger run in its short forms: every fault once under the classic group protocol, those that
concern groups also under KIP-848.
"""

from pathlib import Path

import pytest

from headrace.adapters.kafka.options import GroupProtocol
from tests.chaos.run import run
from tests.support.nemesis import FaultKind

SECONDS = 60.0
GROUP_SECONDS = 25.0
SEED = 20_260
GROUP_FAULTS = (FaultKind.KILL_DISPATCHER, FaultKind.FREEZE_DISPATCHER, FaultKind.CHURN)

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.mark.clause("D8", "E3")
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """With every fault injected under load, each acknowledged event is delivered or
    dead-lettered, and every other promise holds.
    """
    report = await run(SECONDS, SEED, tmp_path)
    print(report.as_text())
    assert report.violations == [], report.as_text()


async def test_nothing_is_lost_under_the_new_group_protocol(tmp_path: Path) -> None:
    """The same with KIP-848: a dispatcher is killed, one is frozen past its session, and one joins
    and leaves.
    """
    report = await run(
        GROUP_SECONDS, SEED, tmp_path, protocol=GroupProtocol.CONSUMER, kinds=GROUP_FAULTS
    )
    print(report.as_text())
    assert report.violations == [], report.as_text()
