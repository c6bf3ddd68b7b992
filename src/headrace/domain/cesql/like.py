"""LIKE, searched at C speed.

A pattern from a manifest is matched against text from any sender, so backtracking is not possible:
as a regular expression, a pattern with a few wildcards can keep a process busy for minutes. Here
the pattern is split at `%` into segments. The first and the last have fixed positions; each one
between is matched at its first position, which is enough: a later one never leaves more room. A
segment without `_` is found by `str.find`. Of one with `_`, the longest literal run is found, and
the other runs are compared around it.

The work is at most the length of the text times the size of the largest segment. `Pattern.steps`
says how much that is, and a search for which steps are counted (`headrace.domain.cesql.budget`)
ends when there are none left.
"""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.domain.cesql.budget import CALL_STEPS, RUN_STEPS, Metered

Matcher = Callable[[str], bool]
"""Whether a whole text fits a pattern."""
MeteredMatcher = Callable[[str, Metered], bool]
"""The same, spending steps. Raises `BudgetExceeded`."""

_ANY = None
"""Stands for `_` in a segment."""
_SHORT_NEEDLE = 100
"""From this length on `str.find` takes time in proportion to the text; below, to the product of
both lengths.
"""


def _price(size: int) -> int:
    """Steps per character of a search for a string of this size."""
    if size <= 1:
        return 1
    return 3 + (size // 4 if size < _SHORT_NEEDLE else 1)


def _find(text: str, part: str, start: int, end: int, meter: Metered | None) -> int:
    if meter is None:
        return text.find(part, start, end)
    price = _price(len(part))
    meter.afford((end - start) * price)
    found = text.find(part, start, end)
    meter.spend(CALL_STEPS + max((end if found < 0 else found + len(part)) - start, 0) * price)
    return found


@dataclass(frozen=True, slots=True)
class _Segment:
    """What stands between two `%`: literal runs with their offsets, and the longest of them, which
    a search looks for first.
    """

    size: int
    runs: tuple[tuple[int, str], ...]
    anchor_offset: int
    anchor: str

    @property
    def literal(self) -> str | None:
        """The segment as a plain string, when no `_` is in it."""
        return self.anchor if len(self.anchor) == self.size else None

    def fits(self, text: str, at: int, meter: Metered | None) -> bool:
        """Whether the segment stands at `at`; the caller knows that the text is long enough."""
        compared = 0
        for offset, run in self.runs:
            compared += 1
            if not text.startswith(run, at + offset):
                break
        else:
            compared += 1
        if meter is not None:
            meter.spend(CALL_STEPS + RUN_STEPS * compared)
        return compared > len(self.runs)

    def find(self, text: str, start: int, end: int, meter: Metered | None) -> int:
        """The first place from `start` at which the segment stands and ends by `end`, -1 when there
        is none.
        """
        offset, anchor = self.anchor_offset, self.anchor
        if not anchor:
            if meter is not None:
                meter.spend(CALL_STEPS)
            return start if start + self.size <= end else -1
        if len(anchor) == self.size:
            return _find(text, anchor, start, end, meter)
        end -= self.size - offset - len(anchor)
        at = start
        while (found := _find(text, anchor, at + offset, end, meter)) >= 0:
            at = found - offset
            if self.fits(text, at, meter):
                return at
            at += 1
        return -1

    def steps(self, length: int) -> int:
        """The most steps of a search in a text of this length."""
        if (literal := self.literal) is not None:
            return CALL_STEPS + (length + len(literal)) * _price(len(literal))
        anchor = len(self.anchor)
        return (length + 1) * (
            2 * CALL_STEPS + RUN_STEPS * (len(self.runs) + 1) + (anchor + 1) * _price(anchor)
        )


def _length_of_run(run: tuple[int, str]) -> int:
    return len(run[1])


def _split(pattern: str) -> list[list[str | None]]:
    """The units (a character, or None for `_`) of each segment."""
    segments: list[list[str | None]] = [[]]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and pattern[at + 1 : at + 2] in ("%", "_"):
            at += 1
            segments[-1].append(pattern[at])
        elif character == "%":
            segments.append([])
        else:
            segments[-1].append(_ANY if character == "_" else character)
        at += 1
    return segments


def _literal(part: str) -> _Segment:
    return _Segment(len(part), ((0, part),) if part else (), 0, part)


def _segment(units: list[str | None]) -> _Segment:
    runs: list[tuple[int, str]] = []
    start = 0
    for end in range(len(units) + 1):
        if end == len(units) or units[end] is _ANY:
            if end > start:
                runs.append((start, "".join(unit for unit in units[start:end] if unit is not _ANY)))
            start = end + 1
    anchor_offset, anchor = max(runs, key=_length_of_run, default=(0, ""))
    return _Segment(len(units), tuple(runs), anchor_offset, anchor)


class Pattern:
    r"""A LIKE pattern: `%` is any run of characters, `_` any one; `\%` and `\_` are those two
    themselves.

    A backslash before anything else is a backslash (CESQL 1.0, 3.4.3).
    """

    __slots__ = ("_segments",)

    def __init__(self, pattern: str) -> None:
        if "_" in pattern or "\\" in pattern:
            self._segments = [_segment(units) for units in _split(pattern)]
        else:
            self._segments = [_literal(part) for part in pattern.split("%")]

    def matcher(self) -> Matcher:
        """The matcher that counts nothing."""
        segments = self._segments
        match [segment.literal for segment in segments]:
            case [str(only)]:
                return only.__eq__
            case [str(head), ""]:
                return lambda text: text.startswith(head)
            case ["", str(tail)]:
                return lambda text: text.endswith(tail)
            case ["", str(part), ""]:
                return lambda text: part in text
            case _:
                matches = _matcher(segments)
                return lambda text: matches(text, None)

    def metered_matcher(self) -> MeteredMatcher:
        """The matcher that spends steps."""
        return _matcher(self._segments)

    def steps(self, length: int) -> int:
        """The most steps that a match against a text of this length takes."""
        first, *others = self._segments
        if not others:
            return 2 * CALL_STEPS + RUN_STEPS * (len(first.runs) + 1)
        fixed = RUN_STEPS * (len(first.runs) + len(others[-1].runs) + 2) + 2 * CALL_STEPS
        # Each segment is looked for behind the one before it: what they look at is one text, not as
        # many as there are segments.
        between = others[:-1]
        return (
            fixed
            + sum(segment.steps(0) for segment in between)
            + max((segment.steps(length) for segment in between), default=0)
        )


class Patterns(dict[str, Pattern]):
    """Patterns by text, each made when it is first asked for."""

    def __missing__(self, pattern: str) -> Pattern:
        self[pattern] = made = Pattern(pattern)
        return made


def _matcher(segments: list[_Segment]) -> Callable[[str, Metered | None], bool]:
    first, last, between = segments[0], segments[-1], segments[1:-1]
    if len(segments) == 1:
        return lambda text, meter: len(text) == first.size and first.fits(text, 0, meter)
    size_min = sum(segment.size for segment in segments)

    def matches(text: str, meter: Metered | None) -> bool:
        end = len(text) - last.size
        if (
            len(text) < size_min
            or not first.fits(text, 0, meter)
            or not last.fits(text, end, meter)
        ):
            return False
        at = first.size
        for segment in between:
            at = segment.find(text, at, end, meter)
            if at < 0:
                return False
            at += segment.size
        return True

    return matches
