"""Rates, silences and recovery around faults: they distinguish a fault with an effect from one
without. Pure functions of times.
"""

import itertools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import nan

from tests.support.ledger import Arrival, Entry, Outcome
from tests.support.nemesis import FaultKind, Fired
from tests.support.report import FaultFigures
from tests.support.time_series import Point

WINDOW_SECONDS = 1.0
"""Rates are counted in windows of this length."""
NORMAL = 0.6
"""The fraction of the fault-free rate that counts as recovered."""
DENSE = 0.9
"""In streams with fewer events per second a silence has no meaning."""
SILENT, SILENT_SECONDS = 3.0, 0.3
"""A silence this many times the longest fault-free one, and this long, is a trace."""
UNKNOWN_SECONDS = 10.0
"""How far after a fault to look if the flow did not recover."""

_DISPATCHING = frozenset({FaultKind.KILL_DISPATCHER, FaultKind.FREEZE_DISPATCHER, FaultKind.CHURN})
_STORING = frozenset({FaultKind.KILL_INGRESS, FaultKind.STOP_KAFKA, FaultKind.KILL_KAFKA})


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of sorted or unsorted `values`; None when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def within(times: Sequence[float], start: float, end: float) -> int:
    """How many of the sorted `times` are in [start, end)."""
    return bisect_left(times, end) - bisect_left(times, start)


def longest_silence(times: Sequence[float], start: float, end: float) -> float:
    """The longest interval in [start, end] without one of the sorted `times`."""
    inside = times[bisect_left(times, start) : bisect_right(times, end)]
    marks = [start, *inside, end]
    return max(later - earlier for earlier, later in itertools.pairwise(marks))


def recovery(
    times: Sequence[float], ended: float, normal_per_second: float, limit: float
) -> float | None:
    """Seconds from `ended` to the first window in which `times` are as dense as normal; None if
    there is none before `limit`.
    """
    wanted = normal_per_second * WINDOW_SECONDS * NORMAL
    at = ended
    while at + WINDOW_SECONDS <= limit:
        if within(times, at, at + WINDOW_SECONDS) >= wanted:
            return at - ended
        at += 0.05
    return None


def latency_curve(
    latencies: Iterable[tuple[float, float]], *, window_seconds: float
) -> list[Point]:
    """From (acknowledged at, milliseconds) to the 99th percentile of each window, at the window's
    start.
    """
    windows: Mapping[int, list[float]] = defaultdict(list)
    for at, milliseconds in latencies:
        windows[int(at // window_seconds)].append(milliseconds)
    return [
        (number * window_seconds, percentile(values, 0.99) or 0.0)
        for number, values in sorted(windows.items())
    ]


class Flow:
    """Acknowledgements by writer, and first deliveries by sink and key, as sorted times.

    Streams are looked at separately: when one of two dispatchers dies, half of the keys stop while
    the total looks normal. `steady` are the names of the sinks without scripted failures.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        arrivals: Sequence[Arrival],
        steady: frozenset[str],
        *,
        calm: tuple[float, float],
        end: float,
    ) -> None:
        self._arrivals = sorted(arrivals, key=lambda each: each.start)
        self._unsettled = sorted(
            entry.sent_at for entry in entries if entry.posts > 1 or entry.outcome is Outcome.INFO
        )
        self._calm = calm
        self._end = end
        """When the load stopped."""
        acks: dict[str, list[float]] = defaultdict(list)
        for entry in entries:
            if entry.outcome is Outcome.OK and entry.settled_at is not None:
                acks[entry.writer].append(entry.settled_at)
        deliveries: dict[str, list[float]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for arrival in self._arrivals:
            if (
                arrival.sink in steady
                and arrival.accepted
                and (arrival.sink, arrival.event) not in seen
            ):
                seen.add((arrival.sink, arrival.event))
                deliveries[f"{arrival.sink}/{arrival.key}"].append(arrival.end)
        self._acks, self._deliveries = self._streams(acks), self._streams(deliveries)

    def _streams(self, times: Mapping[str, list[float]]) -> list[list[float]]:
        """Streams that are dense enough without faults for a silence to have a meaning."""
        return [
            sorted(each)
            for each in times.values()
            if within(sorted(each), *self._calm) / (self._calm[1] - self._calm[0]) >= DENSE
        ]

    def figures(self, fired: Fired, run_started: float) -> FaultFigures:
        """What `fired` did to this flow."""
        kind = fired.fault.kind
        streams = self._concerned(kind)
        back = [
            recovery(times, fired.ended, self._calm_rate(times), self._end) for times in streams
        ]
        known = [each for each in back if each is not None]
        whole = len(known) == len(back)
        until = min(self._end, fired.ended + (max(known) if whole and known else UNKNOWN_SECONDS))
        silence = max(
            (longest_silence(times, fired.started, until) for times in streams), default=0.0
        )
        recovered = (
            self._after_storm(fired)
            if kind is FaultKind.STORM
            else max(known, default=nan)
            if whole
            else None
        )
        return FaultFigures(
            kind=kind.value,
            at=round(fired.started - run_started, 2),
            seconds=round(fired.ended - fired.started, 2),
            trace=None if fired.error else self._trace(fired, until),
            recovery_seconds=None if recovered is None else round(recovered, 2),
            silence_seconds=round(silence, 2),
            note=fired.error or fired.note,
        )

    def _concerned(self, kind: FaultKind) -> list[list[float]]:
        """The streams that a fault of this kind may stop."""
        if kind is FaultKind.KILL_INGRESS:
            return self._acks
        if kind in _STORING:
            return [*self._acks, *self._deliveries]
        return self._deliveries if kind in _DISPATCHING else []

    def _after_storm(self, fired: Fired) -> float | None:
        """When the sink that answered 503, whose name is the fault's, accepts its next event."""
        taken = [
            each.end
            for each in self._arrivals
            if each.sink == fired.fault.kind.value and each.accepted and each.end >= fired.ended
        ]
        return min(taken) - fired.ended if taken else None

    def _calm_rate(self, times: Sequence[float]) -> float:
        start, end = self._calm
        return within(times, start, end) / (end - start)

    def _trace(self, fired: Fired, until: float) -> str | None:
        kind = fired.fault.kind
        if kind in _STORING:
            unsettled = within(self._unsettled, fired.started - 1.0, until)
            return (
                f"{unsettled} events posted again"
                if unsettled
                else self._silence(self._acks, fired, until)
            )
        if kind in _DISPATCHING and kind is not FaultKind.CHURN:
            again = len(self._redelivered(fired.started, until + 2.0))
            return f"{again} sent again" if again else self._silence(self._deliveries, fired, until)
        if kind is FaultKind.STORM:
            refused = sum(
                arrival.status == 503 and fired.started <= arrival.end <= fired.ended
                for arrival in self._arrivals
            )
            return f"{refused} answered 503" if refused else None
        return fired.note or None

    def _silence(
        self, streams: Sequence[Sequence[float]], fired: Fired, until: float
    ) -> str | None:
        """Streams that were silent for much longer than ever without faults."""
        silences = [
            silence
            for times in streams
            if (silence := longest_silence(times, fired.started, until))
            > max(SILENT_SECONDS, SILENT * longest_silence(times, *self._calm))
        ]
        return f"{len(silences)} keys silent, {max(silences):.1f} s" if silences else None

    def _redelivered(self, start: float, end: float) -> set[tuple[str, str]]:
        """Deliveries in [start, end) of events that had reached that sink before, and had not been
        refused there.
        """
        taken: set[tuple[str, str]] = set()
        again: set[tuple[str, str]] = set()
        for arrival in self._arrivals:
            place = (arrival.sink, arrival.event)
            if place in taken and start <= arrival.start < end:
                again.add(place)
            if arrival.accepted or arrival.status is None:
                taken.add(place)
        return again
