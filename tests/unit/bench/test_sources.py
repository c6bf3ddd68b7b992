"""The table of sources: what limited each, and what was not measured."""

import json
from typing import cast

import pytest
from bench.report import Figures, Results
from bench.sources.cases import CASES, Case, measure_sources
from bench.sources.figures import BUSY_CPUS, SourceFigures, sources_table
from bench.sources.service import QUICK, Service, Unavailable

from headrace_sources.registry import ADAPTERS
from tests.support.headrace_under_test import HeadraceUnderTest

QUEUE = SourceFigures(
    kind="Queue",
    events=1_500,
    per_second=1_234.4,
    cpu_us=99.6,
    cpus=0.123,
    rss_mib=72.4,
    outside="its server",
)
BUSY = SourceFigures(
    kind="Topic", events=9, per_second=10.0, cpu_us=1.0, cpus=BUSY_CPUS, outside="Kafka"
)
IDLE = SourceFigures(kind="no source", cpus=0.0125, rss_mib=50.0)


def row(figures: SourceFigures) -> str:
    """The row of one source, whatever the widths of its columns."""
    _, _, found = sources_table([figures]).splitlines()
    return " ".join(found.split())


def test_a_source_that_was_not_busy_was_limited_by_the_outside() -> None:
    """One that used a core was the limit itself."""
    assert (QUEUE.limited_by, BUSY.limited_by) == ("its server", "source")
    assert row(QUEUE) == "Queue 1,500 1,234 100 12.3 72 its server -"
    assert row(BUSY) == "Topic 9 10 1 85.0 - source -"


def test_a_process_without_a_source_has_no_events() -> None:
    """Only what it uses meanwhile."""
    assert row(IDLE) == "no source - - - 1.2 50 - -"


def test_what_cannot_run_here_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that looks like a figure."""

    def skipped(_: Service) -> SourceFigures:
        pytest.skip("needs Go")

    def unavailable(_: Service) -> SourceFigures:
        raise Unavailable("no Maven")

    cases = {"a": Case("A", skipped), "b": Case("B", unavailable), "c": Case("C", skipped)}
    monkeypatch.setattr("bench.sources.cases.CASES", cases)
    found = measure_sources(cast(HeadraceUnderTest, None), QUICK, ["b", "a"])
    assert row(found[0]) == "A - - - - - - - not measured: needs Go"
    assert row(found[1]) == "B - - - - - - - not measured: no Maven"
    assert len(found) == 2


def test_each_adapter_has_a_case() -> None:
    """And so has the service without a source."""
    assert set(CASES) == {*ADAPTERS, "none"}


def test_the_report_has_both_tables() -> None:
    """A run of sources alone has no empty table of other cases."""
    results = Results(sources=[QUEUE, IDLE])
    assert results.as_text() == sources_table([QUEUE, IDLE])
    [queue, idle] = json.loads(results.as_json())["sources"]
    assert (queue["cpu_us"], queue["limited_by"]) == (99.6, "its server")
    assert (idle["cpu_us"], idle["limited_by"]) == (None, "")
    both = Results([Figures(work="ingress", triggers=0, events=1, per_second=1.0)], [QUEUE])
    assert [each.split()[0] for each in both.as_text().split("\n\n")] == ["work", "source"]
