"""The newest trace of each bucket is on the page that has the format OpenMetrics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.samples import Exemplar

from headrace.codec.trace_context import TraceContext
from headrace.runtime.exemplars import add_exemplars
from headrace.runtime.metrics import HistogramChild, Metrics
from tests.support.metrics_page import exemplars

FIRST, SECOND = (TraceContext(0xA, number, sampled=True) for number in (1, 2))


class Traced:
    """Metrics with a histogram, and the position that they see."""

    def __init__(self) -> None:
        self.position: TraceContext | None = None
        self.metrics = Metrics(process=False)
        add_exemplars(self.metrics, lambda: self.position)
        self.child = self.metrics.histogram("seconds", "Time.", buckets=(0.1, 1.0)).labels()

    def observe(self, value: float, position: TraceContext | None) -> None:
        """Observe a value at a position."""
        self.position = position
        self.child.observe(value)

    def exemplars(self) -> dict[str, Exemplar]:
        """What the page has, by the limit of the bucket."""
        page, content_type = self.metrics.expose(openmetrics=True)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        return exemplars(page.decode(), "headrace_seconds")


def test_each_bucket_has_its_newest_trace() -> None:
    """With the value that was observed there, and the time."""
    traced = Traced()
    traced.observe(0.02, FIRST)
    traced.observe(0.03, SECOND)
    traced.observe(5.0, FIRST)
    found = traced.exemplars()
    assert {"0.1", "+Inf"} == set(found)
    assert {"trace_id": f"{0xA:032x}", "span_id": f"{2:016x}"} == found["0.1"].labels
    assert 0.03 == found["0.1"].value
    assert (f"{1:016x}", 5.0) == (found["+Inf"].labels["span_id"], found["+Inf"].value)
    assert found["0.1"].timestamp is not None


def test_what_is_not_traced_leaves_the_exemplar() -> None:
    """It stays until a newer trace is in its bucket, also across scrapes."""
    traced = Traced()
    traced.observe(0.02, FIRST)
    traced.observe(0.03, None)
    before = traced.exemplars()
    assert 0.02 == before["0.1"].value
    traced.observe(0.04, None)
    assert before == traced.exemplars()
    traced.observe(0.1, SECOND)
    assert 0.1 == traced.exemplars()["0.1"].value


def test_the_counts_are_those_of_any_histogram() -> None:
    """The two kinds of children count the same."""
    traced, plain = Traced(), Metrics(process=False)
    child = plain.histogram("seconds", "Time.", buckets=(0.1, 1.0)).labels()
    for value in (0.02, 0.1, 0.5, 1.0, 3.0):
        traced.observe(value, FIRST)
        child.observe(value)
    assert plain.expose() == traced.metrics.expose()
    assert 5 == traced.child.count
    assert b"trace_id" not in traced.metrics.expose()[0]


def test_without_traces_a_histogram_is_the_plain_one() -> None:
    """Observing costs nothing more."""
    child = Metrics(process=False).histogram("seconds", "Time.").labels()
    assert HistogramChild is type(child)


def test_exemplars_are_added_before_the_first_histogram() -> None:
    """Children that exist would have none, and nobody would notice."""
    metrics = Metrics(process=False)
    metrics.counter("events", "Events.")
    add_exemplars(metrics, lambda: None)
    metrics.histogram("seconds", "Time.")
    with pytest.raises(RuntimeError, match="headrace_seconds"):
        add_exemplars(metrics, lambda: None)


WORKER = """
from headrace.codec.trace_context import TraceContext
from headrace.runtime.exemplars import add_exemplars
from headrace.runtime.metrics import Metrics
metrics = Metrics()
add_exemplars(metrics, lambda: TraceContext(1, 2, sampled=True))
metrics.histogram("seconds", "Time.").labels().observe(0.05)
page, content_type = metrics.expose(openmetrics=True)
print(content_type)
print(page.decode())
"""


def test_several_workers_have_none(tmp_path: Path) -> None:
    """The library cannot combine them; the page has the text format."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WORKER]
    page = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert page.startswith("text/plain")
    assert "headrace_seconds_count 1.0" in page
    assert "trace_id" not in page
    assert "# EOF" not in page
