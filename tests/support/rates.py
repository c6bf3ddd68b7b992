"""Rates, silences and recovery around faults: what tells a fault that bit from one that nobody noticed. Pure functions of times."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from tests.support.ledger import Arrival, Entry, Outcome
from tests.support.nemesis import FaultKind, Fired
from tests.support.report import FaultFigures

WINDOW_SECONDS = 1.0
"""Rates are counted over windows of this length."""
NORMAL = 0.6
"""The share of the calm rate that counts as normal again."""
SILENT = 3.0
"""A silence this many times the longest calm one is a trace."""

_DISPATCHING = frozenset({FaultKind.KILL_DISPATCHER, FaultKind.FREEZE_DISPATCHER, FaultKind.CHURN})
_STORING = frozenset({FaultKind.KILL_INGRESS, FaultKind.STOP_KAFKA, FaultKind.KILL_KAFKA})


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of sorted or unsorted `values`; None when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def within(times: Sequence[float], start: float, end: float) -> int:
    """How many of the sorted `times` lie in [start, end)."""
    return bisect_left(times, end) - bisect_left(times, start)


def longest_silence(times: Sequence[float], start: float, end: float) -> float:
    """The longest stretch of [start, end] without one of the sorted `times`."""
    inside = times[bisect_left(times, start) : bisect_right(times, end)]
    marks = [start, *inside, end]
    return max(later - earlier for earlier, later in itertools.pairwise(marks))


def recovery(times: Sequence[float], ended: float, normal_per_second: float, limit: float) -> float | None:
    """Seconds from `ended` to the first window in which `times` are as dense as normal; None when none is before `limit`."""
    wanted = normal_per_second * WINDOW_SECONDS * NORMAL
    at = ended
    while at + WINDOW_SECONDS <= limit:
        if within(times, at, at + WINDOW_SECONDS) >= wanted:
            return at - ended
        at += 0.05
    return None


class Flow:
    """Acknowledgements and first deliveries of a run, as sorted times, with their calm rates.

    `steady` are the names of the sinks that do nothing bad by themselves.
    """

    def __init__(
        self, entries: Sequence[Entry], arrivals: Sequence[Arrival], steady: frozenset[str], *, calm: tuple[float, float], end: float
    ) -> None:
        self.acks = sorted(entry.settled_at for entry in entries if entry.outcome is Outcome.OK and entry.settled_at is not None)
        first: dict[tuple[str, str], float] = {}
        for arrival in arrivals:
            if arrival.sink in steady and arrival.accepted:
                place = (arrival.sink, arrival.event)
                first[place] = min(first.get(place, arrival.end), arrival.end)
        self.deliveries = sorted(first.values())
        self.arrivals = arrivals
        self.unsettled = sorted(entry.sent_at for entry in entries if entry.posts > 1 or entry.outcome is Outcome.INFO)
        self.calm = calm
        self.end = end
        """When the load stopped."""

    def figures(self, fired: Fired, run_started: float) -> FaultFigures:
        """What `fired` did to this flow."""
        storing, dispatching = fired.fault.kind in _STORING, fired.fault.kind in _DISPATCHING
        streams = [self.acks] if storing else [self.deliveries]
        if storing and fired.fault.kind is not FaultKind.KILL_INGRESS:
            streams.append(self.deliveries)
        back = [recovery(times, fired.ended, self._calm_rate(times), self.end) for times in streams]
        known = [each for each in back if each is not None]
        until = fired.ended + (max(known) if known else 5.0)
        return FaultFigures(
            kind=fired.fault.kind.value,
            at=round(fired.started - run_started, 2),
            seconds=round(fired.ended - fired.started, 2),
            bite=self._bite(fired, until) if not fired.error else None,
            recovery_seconds=round(max(known), 2) if len(known) == len(back) else None,
            silence_seconds=round(max(longest_silence(times, fired.started, until) for times in streams), 2)
            if storing or dispatching
            else 0.0,
            note=fired.error or fired.note,
        )

    def _calm_rate(self, times: Sequence[float]) -> float:
        start, end = self.calm
        return within(times, start, end) / (end - start)

    def _bite(self, fired: Fired, until: float) -> str | None:
        kind = fired.fault.kind
        if kind in _STORING:
            unsettled = within(self.unsettled, fired.started - 1.0, until)
            return f"{unsettled} posts without an ack" if unsettled else self._silence(self.acks, fired, until)
        if kind in _DISPATCHING:
            again = len(self._redelivered(fired.started, until + 2.0))
            return f"{again} sent again" if again else self._silence(self.deliveries, fired, until)
        if kind is FaultKind.STORM:
            refused = sum(arrival.status == 503 and fired.started <= arrival.end <= fired.ended for arrival in self.arrivals)
            return f"{refused} answered 503" if refused else None
        return fired.note or None

    def _silence(self, times: Sequence[float], fired: Fired, until: float) -> str | None:
        calm = longest_silence(times, *self.calm)
        silence = longest_silence(times, fired.started, until)
        return f"{silence:.1f} s of silence" if silence > max(0.05, SILENT * calm) else None

    def _redelivered(self, start: float, end: float) -> set[tuple[str, str]]:
        """Deliveries of [start, end) whose event had reached that sink before, and had not been turned down there."""
        taken: set[tuple[str, str]] = set()
        again: set[tuple[str, str]] = set()
        for arrival in sorted(self.arrivals, key=lambda each: each.start):
            place = (arrival.sink, arrival.event)
            if place in taken and start <= arrival.start < end:
                again.add(place)
            if arrival.accepted or arrival.status is None:
                taken.add(place)
        return again
