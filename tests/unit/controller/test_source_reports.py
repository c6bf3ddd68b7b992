"""A source that passes from one process to another stays as it was reported, for a limited time."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.ports import Instance
from headrace.domain.routing import EventSource, Route, source_key
from headrace.domain.source_report import SourceCondition, SourceReport
from headrace_controller.source_reports import HANDOVER_SECONDS, SourceReports

TRUE = SourceCondition(True)
STARTING = SourceCondition(None, "Starting", "the source is being started")
REFUSED = SourceCondition(False, "Refused", "no such repository")
UNDELIVERED = SourceCondition(False, "NotDelivered", "connection refused")
READY = SourceReport(1, {"Deployed": TRUE, "Authenticated": TRUE}, {"address": "a"})
ROUTE = EventSource(
    uid="s", generation=1, epoch=1, namespace="shop", name="orders", adapter="counter"
)


class Reported:
    """What `SourceReports` makes of the reports of some processes about one source."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.route: EventSource | None = ROUTE
        self._reports = SourceReports(self.clock)

    def __call__(self, *reports: SourceReport | None) -> SourceReport | None:
        """Each process reports this; None if it does not run the source."""
        instances = [
            Instance(f"sources-{n}", "sources", 0, 0, sources={"s": each} if each else {})
            for n, each in enumerate(reports)
        ]
        routes: Mapping[str, Route] = {source_key("s"): self.route} if self.route else {}
        return self._reports.merged(instances, routes).get("s")

    def is_due(self) -> bool:
        """Whether something has to be decided again."""
        return self._reports.is_due()


@pytest.fixture
def reported() -> Reported:
    """A source that was Ready in the first of two processes."""
    made = Reported()
    assert made(READY, None) == READY
    return made


@pytest.mark.parametrize(
    "report",
    [
        None,
        SourceReport(1, {"Deployed": STARTING}),
        SourceReport(1, {"Deployed": TRUE}),
        SourceReport(1, {"Deployed": TRUE, "Authenticated": STARTING}),
    ],
    ids=["runs nowhere", "is started", "has reported a part", "is not authenticated yet"],
)
def test_a_source_stays_ready_while_the_next_process_starts_it(
    reported: Reported, report: SourceReport | None
) -> None:
    """Nothing changes for who waits for it."""
    assert reported(None, report) == READY
    reported.clock.advance(HANDOVER_SECONDS - 0.1)
    assert reported(None, report) == READY
    assert not reported.is_due()
    assert reported(None, READY) == READY
    reported.clock.advance(HANDOVER_SECONDS)
    assert not reported.is_due(), "the handover is complete"


@pytest.mark.parametrize("report", [None, SourceReport(1, {"Deployed": STARTING})])
def test_a_source_that_is_not_taken_over_in_time_is_not_ready(
    reported: Reported, report: SourceReport | None
) -> None:
    """However often it was looked at meanwhile."""
    for _ in range(4):
        assert reported(None, report) == READY
        reported.clock.advance(HANDOVER_SECONDS / 4)
    assert reported.is_due()
    assert reported(None, report) == report
    assert not reported.is_due()
    assert reported(None, report) == report


@pytest.mark.parametrize(
    "report",
    [
        SourceReport(1, {"Deployed": TRUE, "Authenticated": REFUSED}),
        SourceReport(1, {"Deployed": REFUSED}),
        SourceReport(2, {"Deployed": STARTING}),
        SourceReport(1, finalized=True),
    ],
    ids=["a condition failed", "it failed", "another generation", "it is removed"],
)
def test_everything_else_is_reported_at_once(reported: Reported, report: SourceReport) -> None:
    """And what was before does not come back."""
    assert reported(None, report) == report
    assert reported(None, None) is None


def test_a_process_that_joins_does_not_make_a_source_unready_that_runs_in_all(
    reported: Reported,
) -> None:
    """Such as one with a webhook. Its failure in one process is shown."""
    assert reported(READY, SourceReport(1, {"Deployed": STARTING})) == READY
    failed = reported(READY, SourceReport(1, {"Deployed": REFUSED}))
    assert failed is not None
    assert failed.conditions["Deployed"] == REFUSED


def test_new_fields_are_published_during_a_handover(reported: Reported) -> None:
    """The process that starts the source knows them."""
    starting = SourceReport(1, {"Deployed": STARTING}, {"address": "b"})
    assert reported(None, starting) == replace(READY, fields={"address": "b"})


@pytest.mark.parametrize(
    "route",
    [None, replace(ROUTE, paused=True), replace(ROUTE, finalizing=True)],
    ids=["deleted", "paused", "being deleted"],
)
def test_a_source_that_is_not_to_run_is_not_passed_on(
    reported: Reported, route: EventSource | None
) -> None:
    """And is not Ready by its earlier report when it runs again."""
    reported.route = route
    assert reported(None, None) is None
    reported.route = ROUTE
    assert reported(None, None) is None


def test_a_source_whose_sink_fails_stays_ready_while_it_passes_on() -> None:
    """`DeliveryHealthy` is not a condition of Ready."""
    reported = Reported()
    failing = replace(READY, conditions={**READY.conditions, "DeliveryHealthy": UNDELIVERED})
    assert reported(failing, None) == failing
    found = reported(None, SourceReport(1, {"Deployed": STARTING}))
    assert found is not None
    assert (TRUE, TRUE) == tuple(found.conditions.get(name) for name in READY.conditions)


def test_a_process_that_joins_does_not_make_a_source_unready_whose_sink_fails() -> None:
    """One that runs in all processes."""
    reported = Reported()
    assert reported(READY, None) == READY
    failing = replace(READY, conditions={**READY.conditions, "DeliveryHealthy": UNDELIVERED})
    found = reported(failing, SourceReport(1, {"Deployed": STARTING}))
    assert found is not None
    assert TRUE == found.conditions["Deployed"]
    assert UNDELIVERED == found.conditions["DeliveryHealthy"]


def test_another_configuration_of_the_same_generation_is_no_handover() -> None:
    """The process says that what it reported is not true of the new configuration."""
    reported = Reported()
    assert reported(READY) == READY
    reported.route = replace(ROUTE, config={"secret": "of another object"})
    starting = SourceReport(1, {"Deployed": STARTING})
    assert reported(starting) == starting


def test_a_part_of_the_conditions_hides_no_report() -> None:
    """A source that begins reports one condition after the other; it was never Ready."""
    reported = Reported()
    reported(SourceReport(1, {"Deployed": TRUE}))
    asked = SourceCondition(None, "Configuring", "GitHub is being asked")
    report = SourceReport(1, {"Deployed": TRUE, "WebhookConfigured": asked})
    assert reported(report) == report
