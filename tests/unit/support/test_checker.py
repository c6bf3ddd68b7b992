"""The checker of ledger runs reports every planted fault, and nothing for a good run."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.support.checker import Committed, Expectation, Generation, Probe, Run, check, losses
from tests.support.ledger import TYPES, Arrival, DeadLettered, Entry, Outcome
from tests.support.nemesis import Fault, FaultKind, Fired
from tests.support.time_series import Curve

ALL = frozenset(TYPES)


def curve(value: Callable[[int], float]) -> Curve:
    """100 seconds of a process's memory, with a limit of 150 MiB."""
    points = [(float(second), value(second)) for second in range(100)]
    return Curve(
        invariant=9, subject="dispatcher-0", unit="MiB", points=points, ceiling=150.0, growth=10.0
    )


@dataclass
class Story:
    """A good run that a test changes: 2 writers, 30 events each, all delivered to `all` in order,
    one kill at 20 s.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    dead_lettered: list[DeadLettered] = field(default_factory=list)
    expectation: Expectation = field(
        default_factory=lambda: Expectation(
            name="all", generations=(Generation(ALL),), ordered=True, retry=2
        )
    )
    faults: list[Fired] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=list)
    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)
    writes_at_rest: int = 0
    curves: list[Curve] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=lambda: {202: 60, 503: 2})
    unanswered: int = 0
    load_ended: float = 30.0

    def __post_init__(self) -> None:
        for counter in range(30):
            for number, writer in enumerate(("w0", "w1")):
                sent = counter + number / 10
                self.entries[f"{writer}.{counter}"] = Entry(
                    writer,
                    counter,
                    writer,
                    TYPES[counter % 3],
                    sent,
                    1,
                    Outcome.OK,
                    sent + 0.01,
                    202,
                )
                self.arrive(f"{writer}.{counter}", sent + 0.02)
        self.arrive("w0.19", 20.5)
        self.faults.append(Fired(Fault(20.0, FaultKind.KILL_DISPATCHER, 0.5), 20.0, 20.5, "pid 1"))
        self.committed += [Committed(float(at), "g", "t/0", at) for at in range(30)]
        self.ends["g", "t/0"] = 29
        self.probes.append(Probe("all", 40.0, 40.1))
        self.curves.append(curve(lambda second: 60.0 + min(second, 30)))

    def arrive(
        self,
        event: str,
        at: float,
        *,
        status: int | None = 200,
        lasting: float = 0.01,
        sink: str = "all",
        damage: str | None = None,
        lag: float = 0.0,
    ) -> None:
        """Add one arrival."""
        key = event.partition(".")[0]
        self.arrivals.append(Arrival(sink, event, key, at, at + lasting, status, damage, lag))

    def forget(self, *events: str) -> None:
        """Remove all arrivals of these."""
        self.arrivals = [arrival for arrival in self.arrivals if arrival.event not in events]

    def run(self) -> Run:
        """The story as a run."""
        return Run(
            seed=1,
            started=0.0,
            calm_until=10.0,
            load_ended=self.load_ended,
            entries=list(self.entries.values()),
            arrivals=self.arrivals,
            dead_lettered=self.dead_lettered,
            expectations=[self.expectation],
            faults=self.faults,
            committed=self.committed,
            ends=self.ends,
            probes=self.probes,
            writes_at_rest=self.writes_at_rest,
            curves=self.curves,
            statuses=self.statuses,
            unanswered=self.unanswered,
        )

    def broken(self) -> set[int]:
        """The numbers of the violated invariants."""
        return {violation.invariant for violation in check(self.run()).violations}


def test_good_run_has_no_violations() -> None:
    """A run with all events delivered, one redelivery after a kill and its offsets committed
    violates nothing.
    """
    report = check(Story().run())
    assert report.violations == []
    assert (
        report.acknowledged,
        report.delivered,
        report.lost,
        report.duplicates,
        report.order_violations,
    ) == (60, 60, 0, 1, 0)
    assert report.faults[0].trace == "1 sent again"


@pytest.mark.parametrize(
    ("event", "position"), [("w0.0", "prefix"), ("w1.15", "middle"), ("w1.29", "postfix")]
)
def test_planted_loss_is_found(event: str, position: str) -> None:
    """An acknowledged event that did not arrive is lost, and its position in its writer's sequence
    is reported.
    """
    story = Story()
    story.forget(event)
    assert [(event, position)] == [(loss.event, loss.position) for loss in losses(story.run())]
    assert 1 in story.broken()


def test_lost_event_names_where_it_was_found() -> None:
    """The places in which a lost event is still stored are reported."""
    story = Story()
    story.forget("w0.3")
    report = check(replace(story.run(), places={"w0.3": ("knative-trigger-a-b.retry",)}))
    assert report.losses[0].found == ("knative-trigger-a-b.retry",)
    assert "LOST w0.3 for all: middle, found in knative-trigger-a-b.retry" in report.as_text()


def test_refused_or_unknown_events_need_not_arrive() -> None:
    """Only acknowledged events have to be delivered."""
    story = Story()
    story.forget("w0.3", "w0.4")
    story.entries["w0.3"].outcome = Outcome.FAIL
    story.entries["w0.4"].outcome = Outcome.INFO
    assert set() == story.broken()


def test_dead_lettered_event_is_not_lost() -> None:
    """An event in the dead letter topic with its reason, after all its attempts, is
    accounted for.
    """
    story = Story()
    story.forget("w0.29")
    for at in (29.1, 29.4, 30.0):
        story.arrive("w0.29", at, status=500)
    story.faults[0] = replace(story.faults[0], started=10.0, ended=10.5)
    story.arrive("w1.10", 10.9)
    story.dead_lettered.append(DeadLettered("all", "w0.29", "attempts used up: 500"))
    assert set() == story.broken()


def _swap(story: Story) -> None:
    story.forget("w0.4")
    story.arrive("w0.4", 5.5)


def _overtake(story: Story) -> None:
    story.forget("w0.4")
    story.arrive("w0.4", 4.02, status=500)
    story.arrive("w0.4", 5.5)


def _overlap(story: Story) -> None:
    story.arrive("w0.4", 4.0, lasting=1.5)


def _corrupt(story: Story) -> None:
    story.arrive("w1.3", 20.6, damage="data differs")


def _corrupt_in_dead_letters(story: Story) -> None:
    story.dead_lettered.append(DeadLettered("all", "w0.3", "500", damage="attribute type differs"))


def _no_reason(story: Story) -> None:
    story.dead_lettered.append(DeadLettered("all", "w0.3", ""))


def _invent(story: Story) -> None:
    story.arrive("w9.1", 20.6)


def _deliver_refused(story: Story) -> None:
    story.entries["w0.3"].outcome = Outcome.FAIL


def _cross_filter(story: Story) -> None:
    story.expectation = replace(
        story.expectation, generations=(Generation(frozenset({"ledger.a", "ledger.b"})),)
    )


def _cross_tenant(story: Story) -> None:
    story.expectation = replace(story.expectation, writers=frozenset({"w1"}))


def _duplicate_without_cause(story: Story) -> None:
    story.faults.clear()


def _too_many_attempts(story: Story) -> None:
    for at in (3.1, 3.5, 4.5):
        story.arrive("w0.3", at, status=500)


def _too_soon(story: Story) -> None:
    story.forget("w0.3")
    story.arrive("w0.3", 3.0, status=500)
    story.arrive("w0.3", 3.05)


def _too_soon_after_a_deadline(story: Story) -> None:
    story.expectation = replace(story.expectation, timeout_seconds=1.0)
    story.forget("w0.3")
    story.arrive("w0.3", 3.0, status=None, lasting=1.0)
    story.arrive("w0.3", 4.05)


def _again_after_400(story: Story) -> None:
    story.forget("w0.3")
    story.arrive("w0.3", 3.0, status=400)
    story.arrive("w0.3", 3.9)


def _given_up_early(story: Story) -> None:
    story.forget("w0.3")
    story.arrive("w0.3", 3.0, status=500)
    story.dead_lettered.append(DeadLettered("all", "w0.3", "attempts used up"))


def _commit_goes_back(story: Story) -> None:
    story.committed += [Committed(31.0, "g", "t/0", 5), Committed(32.0, "g", "t/0", 29)]


def _commit_stays_behind(story: Story) -> None:
    story.ends["g", "t/0"] = 30


def _commit_never_seen(story: Story) -> None:
    story.ends["g", "t/1"] = 3


def _probe_lost(story: Story) -> None:
    story.probes.append(Probe("all", 41.0, None))


def _probe_late(story: Story) -> None:
    story.probes.append(Probe("all", 41.0, 60.0))


def _restless(story: Story) -> None:
    story.writes_at_rest = 3


def _quiet(story: Story) -> None:
    story.faults.clear()
    story.arrivals.pop()


def _fault_without_trace(story: Story) -> None:
    story.faults.append(Fired(Fault(25.0, FaultKind.STORM, 1.0), 25.0, 26.0))


def _fault_not_carried_out(story: Story) -> None:
    story.faults.append(
        Fired(Fault(25.0, FaultKind.KILL_CONTROLLER, 1.0), 25.0, 26.0, error="ProcessLookupError")
    )


def _kill_between_events(story: Story) -> None:
    story.arrivals.pop()


def _empty(story: Story) -> None:
    story.entries.clear()
    story.arrivals.clear()


def _leak(story: Story) -> None:
    story.curves.append(curve(lambda second: 40.0 + second / 2))


def _swell(story: Story) -> None:
    story.curves.append(curve(lambda second: 151.0 if second == 50 else 60.0))


def _slow_down(story: Story) -> None:
    story.curves.append(replace(curve(lambda second: 5.0 * second), invariant=10, ceiling=1000.0))


def _unmeasured(story: Story) -> None:
    story.curves.append(replace(curve(lambda _: 1.0), points=[]))


def _unanswered(story: Story) -> None:
    story.unanswered = 1


def _wrong_status(story: Story) -> None:
    story.statuses[404] = 1


def _never_back(story: Story) -> None:
    story.load_ended = 60.0
    story.forget(*(event for event, entry in story.entries.items() if entry.sent_at > 20.0))
    for event, entry in story.entries.items():
        if entry.sent_at > 20.0:
            story.arrive(event, 59.5 + entry.counter / 1000)


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [
        (1, _no_reason),
        (2, _invent),
        (2, _deliver_refused),
        (3, _corrupt),
        (3, _corrupt_in_dead_letters),
        (4, _cross_filter),
        (4, _cross_tenant),
        (5, _swap),
        (5, _overtake),
        (5, _overlap),
        (6, _duplicate_without_cause),
        (7, _too_many_attempts),
        (7, _too_soon),
        (7, _too_soon_after_a_deadline),
        (7, _again_after_400),
        (7, _given_up_early),
        (9, _leak),
        (9, _swell),
        (9, _unmeasured),
        (10, _slow_down),
        (10, _unanswered),
        (11, _commit_goes_back),
        (11, _commit_stays_behind),
        (11, _commit_never_seen),
        (12, _probe_lost),
        (12, _probe_late),
        (12, _never_back),
        (14, _restless),
        (15, _quiet),
        (15, _fault_without_trace),
        (15, _fault_not_carried_out),
        (15, _kill_between_events),
        (15, _empty),
        (16, _wrong_status),
    ],
)
def test_planted_fault_violates_its_invariant(
    invariant: int, spoil: Callable[[Story], None]
) -> None:
    """Each changed story violates the invariant that it was changed for."""
    story = Story()
    spoil(story)
    assert invariant in story.broken()


def test_only_the_planted_fault_is_reported() -> None:
    """A swap of two events of one key is an order violation and no other."""
    story = Story()
    _swap(story)
    assert {5} == story.broken()


def test_a_resumed_process_may_overlap() -> None:
    """A delivery of a process that was resumed just now may overlap with that of its key's new
    owner; a second later it may not.
    """
    story = Story()
    story.faults.append(Fired(Fault(6.0, FaultKind.FREEZE_DISPATCHER, 8.0), 6.0, 14.0, "pid 1"))
    story.arrive("w0.14", 14.021)
    assert 5 not in story.broken()
    story.arrive("w0.16", 16.021)
    assert 5 in story.broken()


def test_unordered_subscription_may_swap() -> None:
    """Order is required only where it is configured."""
    story = Story()
    story.expectation = replace(story.expectation, ordered=False)
    _swap(story)
    _overlap(story)
    assert set() == story.broken()


def test_event_posted_twice_is_counted_as_repeated() -> None:
    """A second delivery of an event that its writer posted twice is not a duplicate."""
    story = Story()
    story.entries["w0.19"].posts = 2
    report = check(story.run())
    assert (report.duplicates, report.repeated) == (0, 1)


def test_events_near_a_filter_change_may_match_either_filter() -> None:
    """While a process may still use the old filter, an event on which the two differ may arrive or
    not; later the new one decides.
    """
    story = Story()
    narrow = frozenset({"ledger.a", "ledger.b"})
    story.expectation = replace(
        story.expectation, generations=(Generation(ALL, until=15.0), Generation(narrow))
    )
    late = [
        entry.id
        for entry in story.entries.values()
        if entry.type == "ledger.c" and entry.sent_at > 10.0
    ]
    story.forget(*late)
    assert set() == story.broken()
    story.arrive("w0.17", 17.02)
    assert {4} == story.broken()


def test_fault_excuses_attempts_but_not_loss() -> None:
    """Around a kill an event may have more attempts than the policy says; a lost event is still
    lost.
    """
    story = Story()
    for at in (20.6, 20.7, 20.8, 20.9):
        story.arrive("w1.19", at)
    assert set() == story.broken()
    story.forget("w1.19")
    assert {1} == story.broken()


def test_recovery_is_measured_from_the_end_of_the_fault() -> None:
    """The time to normal rates counts from the fault's end, and the silence from its start."""
    story = Story()
    gone = [f"{writer}.{counter}" for writer in ("w0", "w1") for counter in range(20, 25)]
    story.forget(*gone)
    for event in gone:
        story.arrive(event, 24.4 + int(event[3:]) / 100)
    fault = check(story.run()).faults[0]
    assert fault.recovery_seconds is not None
    assert 3.0 <= fault.recovery_seconds <= 4.5
    assert 3.0 <= fault.silence_seconds <= 5.0


def test_recovery_leaves_out_the_time_of_other_faults() -> None:
    """A fault during the recovery from an earlier one does not count as recovery time of
    that one.
    """
    story = Story()
    _never_back(story)
    assert 12 in story.broken()
    story.faults.append(Fired(Fault(22.0, FaultKind.STOP_KAFKA, 30.0), 22.0, 52.0))
    assert not [each for each in check(story.run()).violations if each.invariant == 12]


def test_short_curve_has_no_trend() -> None:
    """A curve of a few seconds is compared with its ceiling only: a process that has just started
    grows.
    """
    rising = replace(
        curve(lambda second: 40.0 + second),
        points=[(float(second), 40.0 + second) for second in range(30)],
    )
    assert rising.rise is None
    assert [] == [*rising.complaints()]


def test_report_is_printable() -> None:
    """The report is written as JSON and as text, and both have the result."""
    report = check(Story().run())
    assert '"ok": true' in report.as_json()
    assert report.as_text().endswith("every invariant holds")


def test_a_deadline_that_the_sink_noticed_late_is_no_violation() -> None:
    """The attempt began 1.2 s before the next and had 1 s: the delay was 0.2 s, although the sink
    noticed its end 0.05 s before.
    """
    story = Story()
    story.expectation = replace(story.expectation, timeout_seconds=1.0)
    story.forget("w0.3")
    story.arrive("w0.3", 3.0, status=None, lasting=1.15)
    story.arrive("w0.3", 4.2)
    assert 7 not in story.broken()


@pytest.mark.parametrize(("lag", "broken"), [(0.0, True), (0.3, False)])
def test_a_sink_without_a_processor_noticed_start_and_end_late(lag: float, broken: bool) -> None:
    """It noticed the start 0.5 s late and the end 0.3 s late: it says how late the end may be."""
    story = Story()
    story.expectation = replace(story.expectation, timeout_seconds=1.0)
    story.forget("w0.3")
    story.arrive("w0.3", 3.5, status=None, lasting=0.8, lag=lag)
    story.arrive("w0.3", 4.3)
    assert (7 in story.broken()) is broken
