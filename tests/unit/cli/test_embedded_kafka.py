"""What the embedded Kafka cannot do is documented for each test, and reported when it occurs."""

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.adapters.kafka.local.mock_cluster_groups import MockClusterGroups
from headrace.adapters.memory.feed import MemoryGroups
from headrace.adapters.memory.feeds import MemoryFeeds
from headrace.adapters.memory.log import MemoryLog
from headrace.adapters.memory.routing import MemoryRoutingLog, MemoryRoutingReader
from headrace.domain.errors import LogFull
from headrace.domain.record import Record
from headrace_cli.embedded_kafka import UnreadLimitedLog
from tests.support.embedded_limits import LIMITS

ROOT = Path(__file__).parents[3]


def test_the_table_in_the_documentation_names_every_test_that_is_left_out() -> None:
    """Each entry has the same reason as the test, and the test exists."""
    rows = re.findall(
        r"^\| `(test_\w+)` \| ([^|]+) \|",
        (ROOT / "docs/embedded.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert LIMITS == {name: why.strip() for name, why in rows}
    tests = "".join(
        path.read_text(encoding="utf-8")
        for place in ("contract", "integration")
        for path in (ROOT / "tests" / place).glob("*.py")
    )
    assert [] == [name for name in LIMITS if f"def {name}(" not in tests]


async def test_a_full_topic_is_said_once() -> None:
    """It is logged with the next step, and is part of the ingress's refusal."""
    log = MemoryLog()
    log.create("t")
    feeds = MemoryFeeds(MemoryGroups(log))
    limited = UnreadLimitedLog(
        log, feeds=feeds, routes=MemoryRoutingReader(MemoryRoutingLog()), bytes_max=300
    )
    record = Record(None, b"x" * 100)
    with capture_logs() as lines:
        limited.append("t", record, lambda _: None)
        for _ in range(3):
            with pytest.raises(LogFull, match=r"not been read.*--kafka apache"):
                limited.append("t", record, lambda _: None)
        assert 0 == await log.flush(5)
        await limited.update_unread()
        limited.append("t", record, lambda _: None)
        with pytest.raises(LogFull):
            limited.append("t", record, lambda _: None)
    assert ["embedded_topic_full"] * 2 == [line["event"] for line in lines]
    await log.stop()


def test_a_deleted_group_continues_under_another_name() -> None:
    """Each topic of a group has its own name, and each deletion leads to another one."""
    groups = MockClusterGroups()
    assert "g/a" == groups.name("g", "a") != groups.name("g", "b")
    groups.delete(["g", "g"])
    second = groups.name("g", "a")
    groups.delete(["g"])
    assert 3 == len({"g/a", second, groups.name("g", "a")})
    assert "h/a" == groups.name("h", "a")
