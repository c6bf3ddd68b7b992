"""The ledger run in its short form: every fault once, every promise kept."""

from pathlib import Path

import pytest

from tests.chaos.run import run

SECONDS = 60.0
SEED = 20_260


@pytest.mark.kafka
@pytest.mark.chaos
@pytest.mark.timeout(420)
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """With every fault fired under load, each acknowledged event is delivered or parked, and every other promise holds."""
    report = await run(SECONDS, SEED, tmp_path)
    print(report.as_text())
    assert report.violations == [], report.as_text()
