"""Assert that the cost of work on hostile input grows at most linearly with the input's size.

Seconds differ between machines; ratios within one run do not. The input doubles, and the cost of
four times the input is compared with the cost of the input itself: linear work costs four times as
much, quadratic work sixteen times. `RATIO_MAX` lies between. The CPU time of this thread is
counted, so other processes on the same cores do not matter.
"""

import gc
import time
from collections.abc import Callable

RATIO_MAX = 9.0
"""Largest ratio of the costs of 4n and n that counts as linear: n log n gives 5, cold caches up to
7, n squared 16.
"""

FLOOR_SECONDS = 0.001
"""Cheaper work is not compared: clock resolution and caches would dominate."""

ENOUGH_SECONDS = 0.15
"""Work that costs this much has shown its growth; larger inputs are not tried."""

ONCE_SECONDS = 0.01
"""Work that costs this much is called once: an interrupt adds little to it, and a result above the
limit is measured again.
"""

ROUNDS = 5
"""How often a result above the limit is measured again before it counts."""


class GrowsTooFast(AssertionError):
    """Four times the input cost more than `RATIO_MAX` times as much."""


def assert_linear(
    prepare: Callable[[int], Callable[[], object]], *, largest: int, smallest: int = 64
) -> None:
    """Double the input from `smallest` up to `largest` and compare the costs.

    `prepare(size)` builds an input of about `size` bytes (or elements) and returns the work on it;
    only the work is timed. The work may be called several times. `largest` is the limit of the
    place where such input arrives: work that stays below `FLOOR_SECONDS` up to there is bounded and
    passes.

    Raises `GrowsTooFast` with all measured costs.
    """
    costs: dict[int, float] = {}
    size = smallest
    while size <= largest:
        costs[size] = _cost(prepare(size))
        before = costs.get(size // 4, 0.0)
        if before >= FLOOR_SECONDS and costs[size] > RATIO_MAX * before:
            ratio = _least_ratio(prepare(size // 4), prepare(size))
            if ratio > RATIO_MAX:
                raise GrowsTooFast(
                    f"4 times the input cost {ratio:.0f} times as much; seconds by size:"
                    f" {_table(costs)}"
                )
        if costs[size] >= ENOUGH_SECONDS and before >= FLOOR_SECONDS:
            return
        size *= 2


def _cost(work: Callable[[], object], *, careful: bool = False) -> float:
    """The lowest CPU time of this thread over up to three calls, in seconds; `careful`: over all
    three, whatever they cost.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        least = float("inf")
        for _ in range(3):
            started = time.thread_time()
            work()
            least = min(least, time.thread_time() - started)
            if least >= ONCE_SECONDS and not careful:
                break
        return least
    finally:
        if was_enabled:
            gc.enable()


def _least_ratio(small: Callable[[], object], large: Callable[[], object]) -> float:
    """The ratio of the lowest costs of both over some alternating rounds, which end once it is
    low enough: page faults, interrupts and time that the hypervisor took may be counted.
    """
    least, ratio = [float("inf"), float("inf")], float("inf")
    for _ in range(ROUNDS):
        least = [
            min(before, _cost(work, careful=True))
            for before, work in zip(least, (small, large), strict=True)
        ]
        ratio = least[1] / least[0]
        if ratio <= RATIO_MAX:
            break
    return ratio


def _table(costs: dict[int, float]) -> str:
    return ", ".join(f"{size}: {cost:.4f}" for size, cost in costs.items())
