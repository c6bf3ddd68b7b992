"""Match LIKE patterns without backtracking, with searches that run at C speed.

The pattern comes from a manifest and the text from any sender, so backtracking must not be
possible: as a regular expression, a pattern with a few wildcards can keep a process busy for
minutes. The pattern is split at `%` into segments. The first and the last segment have fixed
positions. Each segment between them is matched at its first position, which is sufficient: a later
position never leaves more room. A segment without `_` is found with `str.find`. In a segment with
`_`, the longest literal run is searched for, and the other runs are compared around it.

The work is at most the length of the text times the size of the largest segment. `Pattern.steps`
returns this bound. A search that counts steps (`headrace.domain.cesql.budget`) ends when none are
left.
"""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.domain.cesql.budget import CALL_STEPS, RUN_STEPS, Metered

Matcher = Callable[[str], bool]
"""Returns whether a whole text matches a pattern."""
MeteredMatcher = Callable[[str, Metered], bool]
"""A matcher that spends steps. Raises `BudgetExceeded`."""

_ANY = None
"""Represents `_` in a segment."""
_SHORT_NEEDLE = 100
"""From this length on, the time of `str.find` is proportional to the length of the text; below it,
to the product of both lengths.
"""


def _price(size: int) -> int:
    """Return the steps per character of a search for a string of this size."""
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
    """The part of a pattern between two `%`: its literal runs with their offsets.

    `anchor` is the longest run, which a search looks for first.
    """

    size: int
    runs: tuple[tuple[int, str], ...]
    anchor_offset: int
    anchor: str

    @property
    def literal(self) -> str | None:
        """The segment as a plain string, or None if it contains `_`."""
        return self.anchor if len(self.anchor) == self.size else None

    def fits(self, text: str, at: int, meter: Metered | None) -> bool:
        """Return whether the segment matches at `at`.

        The caller must ensure that the text is long enough.
        """
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
        """Return the position of the first match from `start` that ends by `end`, or -1."""
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
        """Return the most steps of a search in a text of this length."""
        if (literal := self.literal) is not None:
            return CALL_STEPS + (length + len(literal)) * _price(len(literal))
        anchor = len(self.anchor)
        return (length + 1) * (
            2 * CALL_STEPS + RUN_STEPS * (len(self.runs) + 1) + (anchor + 1) * _price(anchor)
        )


def _length_of_run(run: tuple[int, str]) -> int:
    return len(run[1])


def _split(pattern: str) -> list[list[str | None]]:
    """Return the units of each segment: a character, or None for `_`."""
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
    r"""A LIKE pattern: `%` matches any run of characters, `_` matches any one character.

    `\%` and `\_` match these two characters themselves. A backslash before any other character is a
    plain backslash (CESQL 1.0, 3.4.3).
    """

    __slots__ = ("_segments",)

    def __init__(self, pattern: str) -> None:
        if "_" in pattern or "\\" in pattern:
            self._segments = [_segment(units) for units in _split(pattern)]
        else:
            self._segments = [_literal(part) for part in pattern.split("%")]

    def matcher(self) -> Matcher:
        """Return a matcher that does not count steps."""
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
        """Return a matcher that spends steps."""
        return _matcher(self._segments)

    def steps(self, length: int) -> int:
        """Return the most steps that a match against a text of this length takes."""
        first, *others = self._segments
        if not others:
            return 2 * CALL_STEPS + RUN_STEPS * (len(first.runs) + 1)
        fixed = RUN_STEPS * (len(first.runs) + len(others[-1].runs) + 2) + 2 * CALL_STEPS
        # Each segment is searched for after the previous one, so together they examine the text
        # once, not once per segment.
        between = others[:-1]
        return (
            fixed
            + sum(segment.steps(0) for segment in between)
            + max((segment.steps(length) for segment in between), default=0)
        )


class Patterns(dict[str, Pattern]):
    """Patterns by text; each one is created on first use."""

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
