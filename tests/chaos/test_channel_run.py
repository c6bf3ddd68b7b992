"""The ledger run through channels and flows, for each kind of channel that keeps its events."""

from pathlib import Path

import pytest

from tests.chaos.channels import lasting_violations, run_channels
from tests.support.nats_server import BINARY, UNPROVEN

SECONDS = 25.0
SEED = 20_261

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.mark.parametrize("kind", ["KafkaChannel", "NatsJetStreamChannel"])
@pytest.mark.clause("C1", "S7")
async def test_nothing_that_a_channel_acknowledged_is_lost(tmp_path: Path, kind: str) -> None:
    """Fan-out, order, replies, dead letters, a Sequence and a Parallel, under every fault of the
    ledger run.
    """
    if kind == "NatsJetStreamChannel" and BINARY is None:
        pytest.skip(UNPROVEN)
    report = await run_channels(kind, SECONDS, SEED, tmp_path)
    print(report.as_text())
    assert report.lost == 0, report.as_text()
    assert report.acknowledged > 500
    assert lasting_violations(report) == [], report.as_text()
