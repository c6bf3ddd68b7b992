"""The figures of a benchmark run."""

from dataclasses import replace

import pytest
from bench.report import Figures, median_pair

PAIR = Figures(
    work="dispatcher", triggers=1, events=1_000, per_second=20_000, dispatcher_us=30, bare_us=25
)


def with_ratios(*ratios: float) -> list[Figures]:
    """Pairs of this cost, as multiples of the bare program's."""
    return [replace(PAIR, dispatcher_us=25 * ratio) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "median", "note"),
    [
        ((1.5, 1.1, 1.2), 1.2, "median of 3 ratios, 1.10 to 1.50"),
        ((1.1, 1.4), 1.4, "median of 2 ratios, 1.10 to 1.40"),
        ((1.2,), 1.2, "median of 1 ratios, 1.20 to 1.20"),
    ],
)
def test_the_median_of_pairs_is_one_of_them(
    ratios: tuple[float, ...], median: float, note: str
) -> None:
    pairs = with_ratios(*ratios)
    found = median_pair(pairs)
    assert found.ratio == pytest.approx(median)
    assert note == found.note
    assert replace(found, note="") in pairs


def test_a_pair_without_one_of_its_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="both programs"):
        median_pair([*with_ratios(1.1), replace(PAIR, bare_us=None)])
    with pytest.raises(ValueError, match="both programs"):
        median_pair([])
