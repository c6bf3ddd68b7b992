"""Counts from hot paths are passed to Prometheus, once."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from headrace.runtime.metrics import Metrics


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, _ = metrics.expose()
    families = text_string_to_metric_families(page.decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


def test_a_tally_is_flushed_once() -> None:
    """Two scrapes without new events show the same count."""
    metrics = Metrics(process=False)
    tally = metrics.counter("ingress_events", "Events.", ["namespace"]).labels("a")
    tally.value += 3
    key = ("headrace_ingress_events_total", (("namespace", "a"),))
    assert 3.0 == _samples(metrics)[key]
    assert 3.0 == _samples(metrics)[key]
    tally.add()
    assert 4.0 == _samples(metrics)[key]


def test_timings_equal_what_the_library_would_have_counted() -> None:
    """Buckets are cumulative, a value that equals a bound belongs to its bucket, and a value above
    the last bound counts in +Inf.
    """
    metrics = Metrics(process=False)
    timings = metrics.histogram("stored_seconds", "Time.", buckets=(0.001, 0.1)).labels()
    for value in (0.0005, 0.001, 0.05, 7.0):
        timings.observe(value)
    found = _samples(metrics)
    assert [2.0, 3.0, 4.0] == [
        found[("headrace_stored_seconds_bucket", (("le", bound),))]
        for bound in ("0.001", "0.1", "+Inf")
    ]
    assert 4.0 == found[("headrace_stored_seconds_count", ())]
    assert 7.0515 == found[("headrace_stored_seconds_sum", ())]


def test_no_series_says_when_another_was_created() -> None:
    """These time series would be half of the page."""
    metrics = Metrics(process=False)
    metrics.counter("events", "Events.").labels().value += 1
    metrics.histogram("stored_seconds", "Time.").labels().observe(0.1)
    assert not [name for name, _ in _samples(metrics) if name.endswith("_created")]


def test_asking_twice_gives_the_same_family_and_child() -> None:
    """Two components that count the same thing share them."""
    metrics = Metrics(process=False)
    assert metrics.counter("x", "X.").labels() is metrics.counter("x", "X.").labels()


def test_a_removed_child_is_shown_no_more() -> None:
    """A deleted subscription leaves no time series."""
    metrics = Metrics(process=False)
    family = metrics.counter("delivered", "Delivered.", ["name"])
    family.labels("gone").value += 1
    assert ("headrace_delivered_total", (("name", "gone"),)) in _samples(metrics)
    family.remove("gone")
    assert ("headrace_delivered_total", (("name", "gone"),)) not in _samples(metrics)


def test_gauges_are_computed_before_a_scrape() -> None:
    """A function that is passed to `before_scrape` sets them."""
    metrics = Metrics(process=False)
    gauge = metrics.gauge("lag_records", "Lag.")
    metrics.before_scrape(lambda: gauge.set(7))
    assert 7.0 == _samples(metrics)[("headrace_lag_records", ())]


WORKER = """
import sys
from headrace.runtime.metrics import Metrics
metrics = Metrics()
metrics.counter("ingress_events", "Events.").labels().value += int(sys.argv[1])
timings = metrics.histogram("stored_seconds", "Time.", buckets=(0.1,)).labels()
for _ in range(int(sys.argv[1])): timings.observe(0.05)
print(metrics.expose()[0].decode())
"""


def test_several_workers_are_summed(tmp_path: Path) -> None:
    """The page of any worker counts the events of all workers, including those that have exited."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pages = [
        subprocess.run(
            [sys.executable, "-c", WORKER, count],
            env=environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        for count in ("2", "5")
    ]
    assert "headrace_ingress_events_total 7.0" in pages[1]
    assert 'headrace_stored_seconds_bucket{le="0.1"} 7.0' in pages[1]
    assert "headrace_stored_seconds_count 7.0" in pages[1]
    assert "_created" not in pages[1]


PARENT = """
import os, subprocess, sys
from headrace.runtime.metrics import Metrics
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
metrics = Metrics()
metrics.counter("delivered", "Delivered.").labels().value += 3
subprocess.run([sys.executable, "-c", sys.argv[2], "4"], check=True, stdout=subprocess.DEVNULL)
print(metrics.expose()[0].decode())
"""


def test_a_parent_with_work_of_its_own_shows_both(tmp_path: Path) -> None:
    """`headrace up` with several ingress workers delivers in the parent process."""
    command = [sys.executable, "-c", PARENT, str(tmp_path), WORKER]
    page = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "headrace_delivered_total 3.0" in page
    assert "headrace_ingress_events_total 4.0" in page
    assert "_created" not in page
