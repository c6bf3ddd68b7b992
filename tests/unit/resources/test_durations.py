"""ISO 8601 durations in manifests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.resources.durations import InvalidDuration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT0,2S", 0.2),
        ("PT0S", 0.0),
        ("P0D", 0.0),
        ("PT30S", 30.0),
        ("PT10M", 600.0),
        ("PT1H30M", 5_400.0),
        ("P1D", 86_400.0),
        ("P2W", 1_209_600.0),
        ("P1W1DT1S", 691_201.0),
        ("P0.5D", 43_200.0),
        ("P1M", 2_629_746.0),
        ("P1Y", 31_556_952.0),
        ("-PT5S", -5.0),
        ("+PT5S", 5.0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """Every unit, both decimal signs, and a sign."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "10s",
        "1",
        "PT1",
        "PT1S1M",
        "PT1.5M1S",
        "pt1s",
        " PT1S",
        "PT1S ",
        "PT.5S",
        "PT1.S",
        "P1S",
        "PT1D",
        "PT١S",
        "PT1e3S",
        "P" + "1" * 70 + "D",
    ],
)
def test_an_invalid_duration_is_refused_with_its_text(text: str) -> None:
    """The error quotes the text."""
    with pytest.raises(InvalidDuration) as caught:
        parse_duration(text)
    assert repr(text)[1:10].rstrip("'") in str(caught.value)


def test_a_duration_beyond_a_century_is_refused() -> None:
    """Times far beyond the calendar would lose precision."""
    with pytest.raises(InvalidDuration, match="longer than 100 years"):
        parse_duration("P101Y")


@given(
    st.integers(min_value=0, max_value=10**14),
    st.sampled_from(["", "-"]),
    st.sampled_from([".", ","]),
)
def test_a_duration_is_read_to_the_microsecond(micros: int, sign: str, point: str) -> None:
    """Nothing is lost in days, hours, minutes, seconds and their fraction."""
    seconds, fraction = divmod(micros, 1_000_000)
    time = f"{seconds // 3_600 % 24}H{seconds // 60 % 60}M{seconds % 60}{point}{fraction:06d}S"
    text = f"{sign}P{seconds // 86_400}DT{time}"
    assert micros == round(abs(parse_duration(text)) * 1e6)
    assert (parse_duration(text) < 0) is (sign == "-" and micros > 0)


@given(st.text(max_size=80))
def test_reading_a_duration_never_fails_otherwise(text: str) -> None:
    """Any text gives a number or `InvalidDuration`."""
    try:
        assert isinstance(parse_duration(text), float)
    except InvalidDuration as error:
        assert str(error)
