"""Estimates the cost of matching a regular expression: RE2 is linear in the text, but each
character may cost as much as the pattern is large.

`pattern_weight` estimates the instructions of the compiled pattern in one pass over its text.
Counted repetitions are expanded when a pattern is compiled, so `(a?){1000}` weighs a thousand times
its content. (pure)
"""

from functools import lru_cache
from typing import Final

PATTERN_MAX = 4_096
"""Characters of a pattern in a schema; the longest in Knative's kinds has under 200."""
WEIGHT_MAX = 50_000
"""Estimated instructions of one pattern, and of all literal patterns of one rule. Compiling that
many takes up to a tenth of a second.
"""
STEPS_MAX = 100_000_000
"""Steps that all patterns of one document may take: about half a second."""
STEP_SECONDS = 5e-9
"""The longest time measured for one step."""
_COMPILED_CHARACTERS = 200
"""Compiling a pattern costs about as much as matching it against this many characters."""

_CLASS_WEIGHT: Final = 10
"""A class in brackets, `.` or `\\W`: ranges of UTF-8 with up to four bytes each."""
_UNICODE_WEIGHT: Final = 500
"""A class of Unicode (`\\pL`): several hundred ranges."""
_REPEAT_MAX = 1_000
"""RE2 refuses more repetitions; nested ones multiply."""
_ESCAPED_CLASSES = frozenset("dDsSwWbB")


@lru_cache(maxsize=1_024)
def pattern_weight(pattern: str) -> int:
    """Approximate number of instructions that RE2 compiles a pattern to; not less, up to small
    constants. Any text has a weight.
    """
    groups: list[int] = []
    total = last = 0
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "(":
            groups.append(total)
            total = last = 0
            position += 1
            continue
        if character == ")" and groups:
            last = total + 2
            total = groups.pop() + last
            position += 1
            continue
        if character == "{":
            times, end = _counted(pattern, position)
            if times is not None:
                # Expanded: this many copies of the preceding element.
                more = last * min(times, 2 * _REPEAT_MAX) - last
                total, last = total + max(more, 0), last + max(more, 0)
                position = end
                continue
        last, position = _atom(pattern, position)
        total += last
    weight = total + sum(groups)
    return weight * 2 if "(?i" in pattern or "(?s" in pattern or "(?-" in pattern else weight


def match_steps(weight: int, length: int) -> int:
    """Steps of one match: instructions of the pattern times characters of the text."""
    return weight * (length + _COMPILED_CHARACTERS)


def _atom(pattern: str, position: int) -> tuple[int, int]:
    """Weight of the single element at `position`, and its end."""
    character = pattern[position]
    if character == "\\":
        following = pattern[position + 1 : position + 2]
        if following in ("p", "P", "x"):
            close = (
                pattern.find("}", position, position + 40)
                if pattern.startswith("{", position + 2)
                else position + 2
            )
            return (1 if following == "x" else _UNICODE_WEIGHT), max(close, position + 1) + 1
        return (_CLASS_WEIGHT if following in _ESCAPED_CLASSES else 1), position + 2
    if character == "[":
        end = _class_end(pattern, position)
        body = pattern[position:end]
        unicode = body.count("\\p") + body.count("\\P")
        return _CLASS_WEIGHT + len(body) + unicode * _UNICODE_WEIGHT, end
    if character == ".":
        return _CLASS_WEIGHT, position + 1
    return (1 if character.isascii() else 4), position + 1


def _class_end(pattern: str, position: int) -> int:
    """Position after the bracket that closes the class; the end of the pattern if none does."""
    at = position + 1
    if pattern.startswith("^", at):
        at += 1
    if pattern.startswith("]", at):
        at += 1
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 2
        elif pattern[at] == "]":
            return at + 1
        elif pattern.startswith("[:", at):
            # A named class: its own bracket is not the end.
            close = pattern.find(":]", at + 2, at + 16)
            at = close + 2 if close >= 0 else at + 1
        else:
            at += 1
    return len(pattern)


def _counted(pattern: str, position: int) -> tuple[int | None, int]:
    """How many copies `{n}`, `{n,}` or `{n,m}` at `position` makes, and its end; None if it is
    literal text.
    """
    end = pattern.find("}", position, position + 14)
    if end < 0:
        return None, position
    low, comma, high = pattern[position + 1 : end].partition(",")
    if not (low.isascii() and low.isdecimal()) or (
        high and not (high.isascii() and high.isdecimal())
    ):
        return None, position
    # Each optional copy has a branch.
    return (2 * max(int(low), int(high or 0)) + 2 if comma else int(low)), end + 1
