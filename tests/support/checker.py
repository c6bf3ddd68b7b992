"""The checker of a ledger run: pure functions from ledger, arrivals and dead letters to a report.

The numbers are those of the invariants in docs/reliability.md. Isolation (8) and the controller's
convergence (14) are measured by other tests; 14 is an observation here, memory (9) and latency (10)
are curves.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from tests.support.ledger import Arrival, DeadLettered, Entry, Outcome
from tests.support.nemesis import FaultKind, Fired
from tests.support.rates import Flow, percentile
from tests.support.report import Loss, Report, SubscriptionFigures, Violation
from tests.support.run_bounds import out_of_bounds, slow_recoveries, wrong_answers
from tests.support.time_series import Curve

RETRYABLE = frozenset({404, 408, 409, 429})
"""Client errors that are retried, as all 5xx are; any other answer outside 2xx is final."""
DISTURBING = frozenset(
    {
        FaultKind.KILL_DISPATCHER,
        FaultKind.FREEZE_DISPATCHER,
        FaultKind.CHURN,
        FaultKind.STOP_KAFKA,
        FaultKind.KILL_KAFKA,
    }
)
"""Faults after which an event may be sent again, with its attempts counted from 1."""
AFTERMATH_SECONDS = 12.0
"""How long after such a fault its redeliveries may arrive: session timeout, rebalance, and the work
that was in flight.
"""
ZOMBIE_SECONDS = 0.1
"""How long after SIGCONT a request may still arrive that was being written at SIGSTOP."""
JITTER = 0.2
"""The fraction by which a delay may be shorter than the policy says."""
CLOCK_SECONDS = 0.05
"""Tolerance for the sink's own timing."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A subscription's filter, and until when (monotonic seconds) some process may have
    applied it.
    """

    types: frozenset[str]
    until: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one subscription must receive, and under which rules."""

    name: str
    generations: tuple[Generation, ...]
    ordered: bool = False
    retry: int = 10
    delay_seconds: float = 0.2
    """First delay of an exponential backoff policy."""
    backoff_max_seconds: float = 600.0
    timeout_seconds: float = 30.0
    """Deadline of one attempt."""
    steady: bool = True
    """Whether its sink always answers well: the run's latencies and rates are measured at these."""
    writers: frozenset[str] | None = None
    """The writers whose events it may receive; None is all writers."""
    counters: Callable[[int], bool] | None = None
    """Which of a writer's events it may receive; None is all."""

    def requires(self, entry: Entry) -> bool:
        """Whether every filter that may have been applied matches the event."""
        return self._mine(entry) and all(
            entry.type in each.types for each in self.generations if each.until > entry.sent_at
        )

    def allows(self, entry: Entry) -> bool:
        """Whether some filter that may have been applied matches the event."""
        return self._mine(entry) and any(
            entry.type in each.types for each in self.generations if each.until > entry.sent_at
        )

    def _mine(self, entry: Entry) -> bool:
        return (self.writers is None or entry.writer in self.writers) and (
            self.counters is None or self.counters(entry.counter)
        )

    def delay_min(self, attempt: int) -> float:
        """The shortest delay after attempt `attempt` (from 1) that the policy allows, in
        seconds.
        """
        return (
            float(min(self.delay_seconds * 2 ** (attempt - 1), self.backoff_max_seconds))
            * (1 - JITTER)
            - CLOCK_SECONDS
        )

    def waited(self, earlier: Arrival, later: Arrival) -> float:
        """The delay between two attempts in seconds: the larger of two measurements.

        A sink on a busy machine notices late that the sender closed the connection at its deadline;
        `lag` is the most that this can be. Such an attempt also lasted `timeout_seconds` from its
        start, and the start may be noticed late too: a delay that is too short by both measurements
        was too short.
        """
        waited = later.start - earlier.end
        return (
            waited
            if earlier.status is not None
            else max(waited + earlier.lag, later.start - earlier.start - self.timeout_seconds)
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """The offset that a group had committed in one partition at one time."""

    at: float
    group: str
    partition: str
    offset: int


@dataclass(frozen=True, slots=True)
class Probe:
    """An event sent after the last fault; `arrived_at` is None if it did not arrive."""

    subscription: str
    sent_at: float
    arrived_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything observed in a run."""

    seed: int
    started: float
    calm_until: float
    load_ended: float
    entries: Sequence[Entry]
    arrivals: Sequence[Arrival]
    dead_lettered: Sequence[DeadLettered]
    expectations: Sequence[Expectation]
    faults: Sequence[Fired] = ()
    committed: Sequence[Committed] = ()
    ends: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """End offset by (group, partition), after all groups have drained."""
    probes: Sequence[Probe] = ()
    probe_seconds_max: float = 5.0
    in_flight_max: int = 1_000
    """Limit of one subscription's events in flight in one process."""
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Topics in which a lost event was found."""
    writes_at_rest: int = 0
    """The controller's routing and status writes while nothing changed."""
    peak_rss_mib: Mapping[str, float] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    statuses: Mapping[int, int] = field(default_factory=dict)
    """Responses of the ingress by status, over all posts."""
    unanswered: int = 0
    """Posts that the ingress accepted and did not answer within its deadline."""
    faults_expected: bool = True
    traces_expected: bool = True
    """Whether each fault has to disturb the flow of events. A light load may have nothing in flight
    when a process is killed.
    """


def without_faults(
    seed: int,
    entries: Sequence[Entry],
    arrivals: Sequence[Arrival],
    expectations: Sequence[Expectation],
) -> Run:
    """A run in which nothing was injected, from its ledger and what the sinks have recorded."""
    times = [entry.sent_at for entry in entries]
    return Run(
        seed=seed,
        started=min(times),
        calm_until=max(times) + 1.0,
        load_ended=max(times) + 1.0,
        entries=entries,
        arrivals=arrivals,
        dead_lettered=[],
        expectations=expectations,
        faults_expected=False,
    )


class _View:
    """The run, indexed once for all checks."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.entries = {entry.id: entry for entry in run.entries}
        self.acked = [entry for entry in run.entries if entry.outcome is Outcome.OK]
        self.arrivals: dict[str, dict[str, list[Arrival]]] = defaultdict(lambda: defaultdict(list))
        for arrival in sorted(run.arrivals, key=lambda each: each.start):
            self.arrivals[arrival.sink][arrival.event].append(arrival)
        self.dead_lettered: dict[str, dict[str, list[DeadLettered]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for each in run.dead_lettered:
            self.dead_lettered[each.subscription][each.event].append(each)
        self.disturbed = [
            (fired.started, fired.ended + AFTERMATH_SECONDS)
            for fired in run.faults
            if fired.fault.kind in DISTURBING
        ]

        thaws = [
            fired.ended for fired in run.faults if fired.fault.kind is FaultKind.FREEZE_DISPATCHER
        ]
        self.thawed = [(ended - CLOCK_SECONDS, ended + ZOMBIE_SECONDS) for ended in thaws]

    def is_disturbed(self, start: float, end: float) -> bool:
        return any(start <= until and began_at <= end for began_at, until in self.disturbed)

    def delivered(self, name: str) -> set[str]:
        return {
            event
            for event, arrivals in self.arrivals[name].items()
            if any(each.accepted for each in arrivals)
        }


def losses(run: Run) -> list[Loss]:
    """Acknowledged events that a subscription had to receive, and that are neither accepted by its
    sink nor in its dead letter topic.
    """
    view = _View(run)
    return [loss for expectation in run.expectations for loss in _losses(view, expectation)]


def check(run: Run) -> Report:
    """Check the run."""
    view = _View(run)
    flow = Flow(
        run.entries,
        run.arrivals,
        frozenset(each.name for each in run.expectations if each.steady),
        calm=(run.started, run.calm_until),
        end=run.load_ended,
    )
    faults = [flow.figures(fired, run.started) for fired in run.faults]
    lost = [loss for expectation in run.expectations for loss in _losses(view, expectation)]
    figures = [_figures(view, expectation, lost) for expectation in run.expectations]
    violations = [
        Violation(1, loss.subscription, f"{loss.event} is lost ({loss.position})") for loss in lost
    ]
    for expectation in run.expectations:
        violations += _strangers(view, expectation)
        violations += _damaged(view, expectation)
        violations += _policy(view, expectation)
        violations += _order(view, expectation)
    for each in figures:
        violations += _limits(view, each)
    violations += [
        *_offsets(run),
        *_liveness(run),
        *slow_recoveries(run.faults, faults, run.load_ended),
    ]
    violations += [*wrong_answers(run.statuses, run.unanswered), *out_of_bounds(run.curves)]
    violations += _reality(view, [each.trace for each in faults])
    if run.writes_at_rest:
        violations.append(
            Violation(14, "controller", f"{run.writes_at_rest} writes although nothing had changed")
        )
    calm, whole = _latencies(view, until=run.calm_until), _latencies(view, until=inf)
    outcomes = Counter(entry.outcome for entry in run.entries)
    return Report(
        seed=run.seed,
        seconds=run.load_ended - run.started,
        attempted=sum(entry.posts for entry in run.entries),
        events=len(run.entries),
        acknowledged=outcomes[Outcome.OK],
        refused=outcomes[Outcome.FAIL],
        indeterminate=outcomes[Outcome.INFO],
        delivered=sum(each.delivered for each in figures),
        dead_lettered=sum(each.dead_lettered for each in figures),
        duplicates=sum(each.duplicates for each in figures),
        repeated=sum(each.repeated for each in figures),
        order_violations=sum(each.order_violations + each.overlaps for each in figures),
        calm_p50_ms=percentile(calm, 0.5),
        calm_p99_ms=percentile(calm, 0.99),
        p50_ms=percentile(whole, 0.5),
        p99_ms=percentile(whole, 0.99),
        subscriptions=figures,
        faults=faults,
        losses=lost,
        violations=violations,
        peak_rss_mib=run.peak_rss_mib,
        curves=run.curves,
        statuses=run.statuses,
    )


def _losses(view: _View, expectation: Expectation) -> Iterator[Loss]:
    delivered, dead_lettered = (
        view.delivered(expectation.name),
        view.dead_lettered[expectation.name],
    )
    by_writer: dict[str, list[Entry]] = defaultdict(list)
    for entry in view.acked:
        if expectation.requires(entry):
            by_writer[entry.writer].append(entry)
    for entries in by_writer.values():
        counters = [entry.counter for entry in entries if entry.id in delivered]
        first, last = (min(counters), max(counters)) if counters else (inf, -inf)
        for entry in entries:
            if entry.id not in delivered and entry.id not in dead_lettered:
                position = (
                    "prefix"
                    if entry.counter < first
                    else "postfix"
                    if entry.counter > last
                    else "middle"
                )
                yield Loss(expectation.name, entry.id, position, view.run.places.get(entry.id, ()))


def _strangers(view: _View, expectation: Expectation) -> Iterator[Violation]:
    """No invention (2) and no cross-talk (4)."""
    for event in {*view.arrivals[expectation.name], *view.dead_lettered[expectation.name]}:
        entry = view.entries.get(event)
        if entry is None:
            yield Violation(2, expectation.name, f"{event} was never sent")
        elif entry.outcome is Outcome.FAIL:
            yield Violation(2, expectation.name, f"{event} was refused and still delivered")
        elif not expectation.allows(entry):
            yield Violation(
                4,
                expectation.name,
                f"{event} of type {entry.type} does not pass its filter, or is not its tenant's",
            )


def _damaged(view: _View, expectation: Expectation) -> Iterator[Violation]:
    for event, arrivals in view.arrivals[expectation.name].items():
        for arrival in arrivals:
            if arrival.damage:
                yield Violation(3, expectation.name, f"{event}: {arrival.damage}")
    for event, dead_lettered in view.dead_lettered[expectation.name].items():
        for each in dead_lettered:
            if each.damage:
                yield Violation(3, expectation.name, f"{event} in its dead letters: {each.damage}")
            if not each.reason:
                yield Violation(1, expectation.name, f"{event} is dead-lettered without a reason")


def is_final(status: int | None) -> bool:
    """Whether an answer is a final failure of an event."""
    return status is not None and status not in RETRYABLE and (status < 200 or 300 <= status < 500)


def _policy(view: _View, expectation: Expectation) -> Iterator[Violation]:
    """Attempts and their delays (7). Events posted twice are left out: two records with one id are
    retried independently.
    """
    for event, arrivals in view.arrivals[expectation.name].items():
        entry = view.entries.get(event)
        if (
            entry is None
            or entry.posts > 1
            or view.is_disturbed(arrivals[0].start, arrivals[-1].end)
        ):
            continue
        if len(arrivals) > expectation.retry + 1:
            yield Violation(
                7,
                expectation.name,
                f"{event} was tried {len(arrivals)} times, the policy says at most"
                f" {expectation.retry + 1}",
            )
        for attempt, (earlier, later) in enumerate(itertools.pairwise(arrivals), start=1):
            if is_final(earlier.status):
                yield Violation(7, expectation.name, f"{event} was retried after {earlier.status}")
            elif not earlier.accepted and expectation.waited(
                earlier, later
            ) < expectation.delay_min(attempt):
                waited, least = expectation.waited(earlier, later), expectation.delay_min(attempt)
                yield Violation(
                    7,
                    expectation.name,
                    f"{event} was retried {waited:.2f} s after attempt {attempt}, the policy"
                    f" says {least:.2f} s at least",
                )
        if (
            event in view.dead_lettered[expectation.name]
            and not is_final(arrivals[-1].status)
            and len(arrivals) < expectation.retry + 1
        ):
            yield Violation(
                7,
                expectation.name,
                f"{event} was given up after {len(arrivals)} of {expectation.retry + 1} attempts",
            )


def _figures(view: _View, expectation: Expectation, lost: Collection[Loss]) -> SubscriptionFigures:
    name = expectation.name
    by_event = view.arrivals[name]
    duplicates = repeated = 0
    for event, arrivals in by_event.items():
        extra = sum(arrival.accepted for arrival in arrivals) - 1
        if extra > 0:
            entry = view.entries.get(event)
            own = min(extra, entry.posts - 1) if entry else 0
            repeated += own
            duplicates += extra - own
    latencies = sorted(_latency(view, name, set(by_event)))
    return SubscriptionFigures(
        name=name,
        required=sum(map(expectation.requires, view.acked)),
        delivered=len(view.delivered(name)),
        dead_lettered=len(view.dead_lettered[name]),
        lost=sum(loss.subscription == name for loss in lost),
        attempts=sum(map(len, by_event.values())),
        duplicates=duplicates,
        repeated=repeated,
        order_violations=_overtakings(view, expectation) if expectation.ordered else 0,
        overlaps=len(_overlaps(by_event, view.thawed)) if expectation.ordered else 0,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
    )


def _overtakings(view: _View, expectation: Expectation) -> int:
    """How many acknowledged events of a key first arrived after, or were still undelivered when, a
    later acknowledged one arrived.
    """
    by_key: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(view.acked, key=lambda each: each.settled_at or 0.0):
        if expectation.requires(entry) and view.arrivals[expectation.name].get(entry.id):
            by_key[entry.key].append(entry)
    count = 0
    for entries in by_key.values():
        through = -inf
        for entry in entries:
            arrivals = view.arrivals[expectation.name][entry.id]
            count += arrivals[0].start < through
            accepted = [arrival.end for arrival in arrivals if arrival.accepted]
            through = max(through, min(accepted) if accepted else arrivals[0].end)
    return count


def _overlaps(
    by_event: Mapping[str, Sequence[Arrival]], thawed: Sequence[tuple[float, float]]
) -> list[tuple[Arrival, Arrival]]:
    """Deliveries of a key that started while an earlier one was in flight; those of a process
    resumed by SIGCONT are left out.
    """
    by_key: dict[str, list[Arrival]] = defaultdict(list)
    for arrivals in by_event.values():
        for arrival in arrivals:
            by_key[arrival.key].append(arrival)
    found: list[tuple[Arrival, Arrival]] = []
    for arrivals in by_key.values():
        longest: Arrival | None = None
        for arrival in sorted(arrivals, key=lambda each: each.start):
            if (
                longest is not None
                and arrival.start < longest.end
                and not any(begin <= arrival.start < end for begin, end in thawed)
            ):
                found.append((longest, arrival))
            if longest is None or arrival.end > longest.end:
                longest = arrival
    return sorted(found, key=lambda pair: pair[1].start)


def _order(view: _View, expectation: Expectation) -> Iterator[Violation]:
    """Order (5): what overlapped, when, and the last failure before it."""
    if not expectation.ordered:
        return
    for first, second in _overlaps(view.arrivals[expectation.name], view.thawed):
        before = max(
            (fired for fired in view.run.faults if fired.started <= second.start),
            key=lambda each: each.started,
            default=None,
        )
        since = (
            f", {second.start - before.ended:+.2f} s from the end of {before.fault.kind.value}"
            if before
            else ""
        )
        yield Violation(
            5,
            expectation.name,
            f"{second.event} began at {second.start - view.run.started:.2f} s,"
            f" {(first.end - second.start) * 1000:.0f} ms before {first.event} (in flight for"
            f" {(first.end - first.start) * 1000:.0f} ms, {first.status}) of its key had"
            f" ended{since}",
        )


def _limits(view: _View, figures: SubscriptionFigures) -> Iterator[Violation]:
    """Order (5) of first deliveries, and bounded redelivery (6)."""
    if figures.order_violations:
        yield Violation(
            5,
            figures.name,
            f"{figures.order_violations} events overtaken by a later one of their key",
        )
    bound = view.run.in_flight_max * sum(
        2 if fired.fault.kind is FaultKind.CHURN else 1
        for fired in view.run.faults
        if fired.fault.kind in DISTURBING
    )
    if figures.duplicates > bound:
        yield Violation(
            6, figures.name, f"{figures.duplicates} duplicates, at most {bound} can be explained"
        )


def _offsets(run: Run) -> Iterator[Violation]:
    newest: dict[tuple[str, str], int] = {}
    for each in sorted(run.committed, key=lambda sample: sample.at):
        place = (each.group, each.partition)
        if each.offset < newest.get(place, -1):
            yield Violation(
                11,
                each.group,
                f"{each.partition}: committed offset went back from {newest[place]} to"
                f" {each.offset}",
            )
        newest[place] = each.offset
    for place, end in run.ends.items():
        if newest.get(place, -1) != end:
            yield Violation(
                11,
                place[0],
                f"{place[1]}: committed {newest.get(place, 'nothing')}, the log ends at {end}",
            )


def _liveness(run: Run) -> Iterator[Violation]:
    for probe in run.probes:
        if probe.arrived_at is None or probe.arrived_at - probe.sent_at > run.probe_seconds_max:
            took = (
                "never came"
                if probe.arrived_at is None
                else f"took {probe.arrived_at - probe.sent_at:.1f} s"
            )
            yield Violation(
                12,
                probe.subscription,
                f"a fresh event after the last fault {took}; {run.probe_seconds_max:g} s are"
                " allowed",
            )


def _reality(view: _View, traces: Sequence[str | None]) -> Iterator[Violation]:
    """The run was real (15): every fault was injected and left a trace, and at least one event was
    delivered more than once.
    """
    run = view.run
    if not view.acked or not run.arrivals:
        yield Violation(15, "run", "nothing was acknowledged, or nothing arrived")
    if not run.faults_expected:
        return
    if not run.faults:
        yield Violation(15, "run", "no fault was injected")
    for fired, trace in zip(run.faults, traces, strict=True):
        if fired.error:
            yield Violation(15, fired.fault.kind.value, f"could not be carried out: {fired.error}")
        elif not trace and run.traces_expected:
            yield Violation(
                15,
                fired.fault.kind.value,
                f"left no trace (at {fired.started - run.started:.1f} s)",
            )
    if run.faults and not any(
        len(arrivals) > 1 for by_event in view.arrivals.values() for arrivals in by_event.values()
    ):
        yield Violation(
            15, "run", "no event was sent twice: no kill landed while one was in flight"
        )


def latencies(run: Run, name: str) -> list[tuple[float, float]]:
    """When each event was acknowledged, and how many milliseconds later the sink received it;
    events that did not arrive are left out.
    """
    view = _View(run)
    times = ((entry.settled_at, [*_latency(view, name, {entry.id})]) for entry in view.acked)
    return [(at, found[0]) for at, found in times if at is not None and found]


def _latencies(view: _View, *, until: float) -> list[float]:
    """Milliseconds from acknowledgement to delivery at the steady sinks, for events acknowledged
    before `until`.
    """
    wanted = {
        entry.id
        for entry in view.acked
        if entry.settled_at is not None and entry.settled_at < until
    }
    return [
        each
        for expectation in view.run.expectations
        if expectation.steady
        for each in _latency(view, expectation.name, wanted)
    ]


def _latency(view: _View, name: str, wanted: Collection[str]) -> Iterator[float]:
    for event in wanted:
        entry = view.entries.get(event)
        if entry is not None and entry.outcome is Outcome.OK and entry.settled_at is not None:
            ends = [
                arrival.end for arrival in view.arrivals[name].get(event, ()) if arrival.accepted
            ]
            if ends:
                yield max(0.0, min(ends) - entry.settled_at) * 1000
