"""What the text of a rule tells about the cost of evaluating it: an upper bound of memory and time
for a value of a given size.

The library stops a rule after a number of loop turns, but a single turn may compare, search or
match texts of any length. What is estimated to be cheap runs in the controller; for the rest see
`cel_process`. (pure)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_apiserver.schemas.patterns import STEP_SECONDS, match_steps, pattern_weight

_LOOPS = frozenset(
    (
        "all",
        "exists",
        "exists_one",
        "existsOne",
        "map",
        "filter",
        "transformList",
        "transformMap",
        "transformMapEntry",
    )
)
_MULTIPLIERS = frozenset(("replace", "join", "format"))
_SEARCHES = frozenset(("contains", "split", "replace", "indexOf", "lastIndexOf"))
_PREFIXES = frozenset(("startsWith", "endsWith"))
_CHEAP_CALLS = _LOOPS | {
    "has",
    "orValue",
    "or",
    "hasValue",
    "value",
    "optMap",
    "optFlatMap",
    "type",
    "dyn",
    "bool",
    "int",
    "uint",
    "double",
}
_COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">="))
_CONSTANTS = frozenset(("true", "false", "null"))
_QUOTES = ('"""', "'''", '"', "'")
_PLAIN_ESCAPES = ("\\'", '\\"', "\\n", "\\r", "\\t")

# Seconds, each the most that was measured with cel-expr-python 0.1.3 on a slow core, rounded up.
_WORD_SECONDS = 100e-9
_BYTE_SECONDS = 1e-9
_PART_SECONDS = 60e-9
_SEARCH_SECONDS = 0.5e-9
"""For each pair of a byte that is searched and one that is looked for."""
_UNKNOWN_WEIGHT_MAX = 350_000
"""Instructions beyond which RE2 refuses a pattern that comes out of the object."""
_UNKNOWN_WEIGHT_OF_BYTE = 1_000


@dataclass(frozen=True, slots=True)
class RuleCost:
    """Counts that decide what a rule may cost."""

    words: int = 0
    commas: int = 0
    loops: int = 0
    """Comprehensions."""
    joins: int = 0
    """Signs `+`, which may join texts or lists."""
    multipliers: int = 0
    """Calls whose result may be as long as the product of their operands."""
    splits: bool = False
    """A text becomes a list, so that loops may have as many turns as it has characters."""
    scans: int = 0
    """Operations that may look at all of the value."""
    searches: int = 0
    """Searches in a text for a text that is not written in the rule."""
    pattern_weight: int = 0
    """Of all patterns that are written in the rule."""
    unknown_patterns: int = 0
    """Matches whose pattern is computed, perhaps out of the object."""
    written: int = 0
    """Characters of the texts that are written in the rule; they count like those of the value."""

    def bytes_max(self, size: int, count: int, loop_turns_max: int) -> int:
        """The most that evaluation may hold in memory for a value of `size` bytes in
        `count` parts.
        """
        size += self.written
        if not (self.loops and self.joins) and not self.multipliers:
            return size
        turns = min(count, loop_turns_max) if self.loops and (self.joins or self.multipliers) else 1
        per_loop = self.joins // max(self.loops, 1) + 1
        growth: int = per_loop ** min(self.loops, 40)
        multiplied: int = max(size, 1) ** (min(self.multipliers, 4) + 1)
        return turns * multiplied * growth

    def seconds_max(self, size: int, count: int, loop_turns_max: int) -> float:
        """The most processor time that evaluation may take for such a value, by estimate."""
        held = self.bytes_max(size, count, loop_turns_max)
        around = count + self.commas + (size + self.written if self.splits else 0) + 1
        turns = min(loop_turns_max, around ** min(self.loops, 3)) if self.loops else 1
        weight = min(held * _UNKNOWN_WEIGHT_OF_BYTE, _UNKNOWN_WEIGHT_MAX)
        steps = match_steps(self.pattern_weight + self.unknown_patterns * weight, held)
        each = self.words * _WORD_SECONDS + self.scans * (
            held * _BYTE_SECONDS + around * _PART_SECONDS
        )
        return turns * (each + steps * STEP_SECONDS + self.searches * held * held * _SEARCH_SECONDS)


def rule_cost(words: Sequence[tuple[str, str]]) -> RuleCost:
    """Count in the words of a rule, space and remarks left out: kind (`name`, `quoted`, `sign`) and
    text.
    """
    loops = joins = multipliers = scans = searches = weight = unknown = 0
    splits = False
    for index, (kind, word) in enumerate(words):
        if kind == "name" and _text(words, index + 1) == "(":
            member = _text(words, index - 1) in (".", "?")
            literal = _literal(words, index + 2)
            loops += member and word in _LOOPS
            multipliers += member and word in _MULTIPLIERS
            splits = splits or word == "split"
            if word == "matches":
                weight += pattern_weight(literal) if literal is not None else 0
                unknown += literal is None
            elif word in _SEARCHES and literal is None:
                searches += 1
            scans += not (word in _CHEAP_CALLS or (word in _PREFIXES and literal is not None))
        elif word == "in" and kind == "name":
            scans += _text(words, index + 1) != "["
        elif word in _COMPARISONS and kind == "sign":
            scans += not (
                _is_constant(words, index - 1, before=True)
                or _is_constant(words, index + 1, before=False)
            )
        elif word == "+" and kind == "sign":
            joins += 1
            scans += 1
    commas = sum(word == "," for _, word in words)
    written = sum(len(word) for kind, word in words if kind == "quoted")
    return RuleCost(
        len(words),
        commas,
        loops,
        joins,
        multipliers,
        splits,
        scans,
        searches,
        weight,
        unknown,
        written,
    )


def _text(words: Sequence[tuple[str, str]], index: int) -> str:
    return words[index][1] if 0 <= index < len(words) else ""


def _literal(words: Sequence[tuple[str, str]], index: int) -> str | None:
    """The text of an argument at `index` that is nothing but a text written in the rule; None for
    any other.
    """
    if (
        index >= len(words)
        or words[index][0] != "quoted"
        or _text(words, index + 1) not in (")", ",")
    ):
        return None
    word = words[index][1]
    prefix = word[: len(word) - len(word.lstrip("rRbB"))]
    word = word[len(prefix) :]
    quote = next(each for each in _QUOTES if word.startswith(each))
    body = word[len(quote) : -len(quote)]
    if prefix.strip("bB"):
        return body
    parts = body.split("\\\\")
    for escape in _PLAIN_ESCAPES:
        parts = [part.replace(escape, " ") for part in parts]
    # Other escapes may stand for any character, a backslash among them.
    return None if any("\\" in part for part in parts) else "\\".join(parts)


def _is_constant(words: Sequence[tuple[str, str]], index: int, *, before: bool) -> bool:
    """Whether one side of a comparison is a constant, and nothing else that stands beside it."""
    if not 0 <= index < len(words):
        return False
    kind, word = words[index]
    beyond = _text(words, index - 1 if before else index + 1)
    if beyond in (".", "+", "[", "?", "("):
        return False
    return kind == "quoted" or word in _CONSTANTS or (word.isascii() and word.isdecimal())
