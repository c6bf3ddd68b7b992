"""Values that are sampled during a run: memory of a process, latency at a good sink. Each has a
ceiling and must not grow steadily.

Pure functions of samples; the times are `time.monotonic()` seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

Point = tuple[float, float]
"""A time and a value."""

POINTS_MIN = 8
"""With fewer samples in its second half a curve has no measurable trend."""
FLAT_SECONDS = 20.0
"""With a shorter second half a curve has no measurable trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One value over the run, and its limits."""

    invariant: int
    subject: str
    unit: str
    points: Sequence[Point]
    ceiling: float
    """The maximum that it may reach."""
    growth: float
    """By how much the median of its last quarter may exceed that of its third: a leak keeps
    growing, a cache that fills up stops.
    """

    @property
    def peak(self) -> float:
        """Its highest value; 0 without samples."""
        return max((value for _, value in self.points), default=0.0)

    @property
    def rise(self) -> float | None:
        """From the third quarter's median to the last's; None if the curve is too short."""
        if not self.points:
            return None
        start, ended = self.points[0][0], self.points[-1][0]
        half, last = start + (ended - start) / 2, start + (ended - start) * 3 / 4
        third = [value for at, value in self.points if half <= at < last]
        fourth = [value for at, value in self.points if at >= last]
        if ended - half < FLAT_SECONDS or len(third) + len(fourth) < POINTS_MIN or not third:
            return None
        return median(fourth) - median(third)

    def complaints(self) -> Iterator[str]:
        """The violated limits."""
        if not self.points:
            yield f"{self.subject}: nothing was measured"
        if self.peak > self.ceiling:
            yield (
                f"{self.subject} reached {self.peak:.0f} {self.unit}, {self.ceiling:.0f}"
                f" {self.unit} are allowed"
            )
        if self.rise is not None and self.rise > self.growth:
            yield (
                f"{self.subject} still grew at the end, by {self.rise:.0f} {self.unit} from the"
                f" third quarter to the last; {self.growth:.0f} {self.unit} are allowed"
            )


def without_start(points: Sequence[Point], seconds: float) -> list[Point]:
    """The points later than `seconds` after the first: a process that has just started fills its
    caches.
    """
    return [point for point in points if point[0] >= points[0][0] + seconds]
