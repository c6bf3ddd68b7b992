"""LIKE in linear time.

A pattern from a manifest meets a text from anybody, so backtracking is out: as a regular expression, a pattern with a few wildcards
can keep a process busy for minutes. Here the pattern is cut at its `%` into segments. The first and the last have fixed places;
each one between is taken where it first fits, which is enough, since a later place never leaves more room for the rest. A segment
without `_` is found by `str.find`; one with `_` by shift-and: one integer operation per character of the text, whatever the pattern.
"""

from collections.abc import Callable
from dataclasses import dataclass

Matcher = Callable[[str], bool]
"""Whether a whole text fits a pattern."""

_ANY = None
"""Stands for `_` in a segment."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """What stands between two `%`: literal runs with their offsets, and for a search the masks of shift-and."""

    size: int
    runs: tuple[tuple[int, str], ...]
    masks: dict[str, int]
    mask_other: int

    @property
    def literal(self) -> str | None:
        """The segment as a plain string, when no `_` is in it."""
        if not self.size:
            return ""
        return self.runs[0][1] if self.runs and len(self.runs[0][1]) == self.size else None

    def fits(self, text: str, at: int) -> bool:
        """Whether the segment stands at `at`; the caller knows that the text is long enough."""
        return all(text.startswith(run, at + offset) for offset, run in self.runs)

    def find(self, text: str, start: int, end: int) -> int:
        """The first place from `start` at which the segment stands and ends by `end`, -1 when there is none."""
        if (literal := self.literal) is not None:
            return text.find(literal, start, end)
        state, done = 0, 1 << (self.size - 1)
        masks, other = self.masks, self.mask_other
        for at in range(start, end):
            state = ((state << 1) | 1) & masks.get(text[at], other)
            if state & done:
                return at - self.size + 1
        return -1


def compile_pattern(pattern: str) -> Matcher:
    r"""The matcher of a LIKE pattern: `%` is any run of characters, `_` any one; `\%` and `\_` are those two themselves.

    A backslash before anything else is a backslash (CESQL 1.0, 3.4.3).
    """
    segments = [_segment(units) for units in _split(pattern)]
    literals = [segment.literal for segment in segments]
    match literals:
        case [str(only)]:
            return only.__eq__
        case [str(head), ""]:
            return lambda text: text.startswith(head)
        case ["", str(tail)]:
            return lambda text: text.endswith(tail)
        case ["", str(part), ""]:
            return lambda text: part in text
        case _:
            return _matcher(segments)


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


def _segment(units: list[str | None]) -> _Segment:
    runs: list[tuple[int, str]] = []
    masks: dict[str, int] = {}
    mask_other = sum(1 << offset for offset, unit in enumerate(units) if unit is _ANY)
    for offset, unit in enumerate(units):
        if unit is _ANY:
            continue
        masks[unit] = masks.get(unit, mask_other) | 1 << offset
        if runs and runs[-1][0] + len(runs[-1][1]) == offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + unit)
        else:
            runs.append((offset, unit))
    return _Segment(len(units), tuple(runs), masks, mask_other)


def _matcher(segments: list[_Segment]) -> Matcher:
    first, last, between = segments[0], segments[-1], segments[1:-1]
    if len(segments) == 1:
        return lambda text: len(text) == first.size and first.fits(text, 0)
    size_min = sum(segment.size for segment in segments)

    def matches(text: str) -> bool:
        end = len(text) - last.size
        if len(text) < size_min or not first.fits(text, 0) or not last.fits(text, end):
            return False
        at = first.size
        for segment in between:
            at = segment.find(text, at, end)
            if at < 0:
                return False
            at += segment.size
        return True

    return matches
