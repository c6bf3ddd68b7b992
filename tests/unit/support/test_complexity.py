"""Tests of `tests.support.complexity`: it detects quadratic work and accepts linear work."""

import re
from functools import partial

import pytest

from tests.support.complexity import GrowsTooFast, assert_linear


def test_linear_work_passes() -> None:
    assert_linear(lambda size: partial(sum, b"x" * size), largest=1 << 22)


def test_n_log_n_passes() -> None:
    assert_linear(
        lambda size: lambda: sorted(range(size), key=lambda n: n * 7919 % 10007), largest=1 << 20
    )


def test_quadratic_work_is_found() -> None:
    with pytest.raises(GrowsTooFast, match="seconds by size"):
        assert_linear(
            lambda size: lambda: [sum(range(n)) for n in range(0, size, 8)], largest=1 << 20
        )


def test_a_quadratic_pattern_is_found() -> None:
    pattern = re.compile(r"a*b")
    with pytest.raises(GrowsTooFast):
        assert_linear(lambda size: partial(pattern.search, "a" * size), largest=1 << 20)


def test_work_that_is_cheap_up_to_its_limit_passes() -> None:
    assert_linear(lambda size: lambda: [sum(range(n)) for n in range(0, size, 8)], largest=128)
