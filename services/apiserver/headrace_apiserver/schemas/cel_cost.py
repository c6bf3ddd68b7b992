"""An upper bound for the memory and time of a rule on a value of a given size, from the text of the
rule.

The library stops a rule after a number of loop iterations, but a single iteration may compare,
search or match texts of any length. A rule that is estimated to be cheap runs in the controller's
process; for the others see `cel_process`. (pure)
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

# Seconds; each is the largest value measured with cel-expr-python 0.1.3 on a slow core, rounded up.
_TOKEN_SECONDS = 100e-9
_BYTE_SECONDS = 1e-9
_PART_SECONDS = 60e-9
_SEARCH_SECONDS = 0.5e-9
"""For each pair of a byte in the searched text and a byte of the text to find."""
_UNKNOWN_WEIGHT_MAX = 350_000
"""Number of instructions beyond which RE2 refuses a pattern that is taken from the object."""
_UNKNOWN_WEIGHT_OF_BYTE = 1_000


@dataclass(frozen=True, slots=True)
class RuleCost:
    """Counts from which the cost of a rule is estimated."""

    tokens: int = 0
    commas: int = 0
    loops: int = 0
    """Comprehensions."""
    joins: int = 0
    """Operators `+`, which may join texts or lists."""
    multipliers: int = 0
    """Calls whose result may be as long as the product of their operands."""
    splits: bool = False
    """A text is split into a list, so that loops may have as many iterations as it has characters.
    """
    scans: int = 0
    """Operations that may visit the whole value."""
    searches: int = 0
    """Searches for a text that is not a literal of the rule."""
    pattern_weight: int = 0
    """Of all patterns that are literals of the rule."""
    unknown_patterns: int = 0
    """Matches with a computed pattern, which may be taken from the object."""
    written: int = 0
    """Characters of the literals of the rule; they count like those of the value."""

    def bytes_max(self, size: int, count: int, iterations_max: int) -> int:
        """Upper bound of the memory that an evaluation needs for a value of `size` bytes in
        `count` parts.
        """
        size += self.written
        if not (self.loops and self.joins) and not self.multipliers:
            return size
        iterations = (
            min(count, iterations_max) if self.loops and (self.joins or self.multipliers) else 1
        )
        per_loop = self.joins // max(self.loops, 1) + 1
        growth: int = per_loop ** min(self.loops, 40)
        multiplied: int = max(size, 1) ** (min(self.multipliers, 4) + 1)
        return iterations * multiplied * growth

    def seconds_max(self, size: int, count: int, iterations_max: int) -> float:
        """Estimated upper bound of the processor time of an evaluation for such a value."""
        held = self.bytes_max(size, count, iterations_max)
        around = count + self.commas + (size + self.written if self.splits else 0) + 1
        iterations = min(iterations_max, around ** min(self.loops, 3)) if self.loops else 1
        weight = min(held * _UNKNOWN_WEIGHT_OF_BYTE, _UNKNOWN_WEIGHT_MAX)
        steps = match_steps(self.pattern_weight + self.unknown_patterns * weight, held)
        each = self.tokens * _TOKEN_SECONDS + self.scans * (
            held * _BYTE_SECONDS + around * _PART_SECONDS
        )
        return iterations * (
            each + steps * STEP_SECONDS + self.searches * held * held * _SEARCH_SECONDS
        )


def rule_cost(tokens: Sequence[tuple[str, str]]) -> RuleCost:
    """Count in the tokens of a rule, without white space and comments; each is a kind (`name`,
    `quoted`, `sign`) and a text.
    """
    loops = joins = multipliers = scans = searches = weight = unknown = 0
    splits = False
    for index, (kind, text) in enumerate(tokens):
        if kind == "name" and _text(tokens, index + 1) == "(":
            member = _text(tokens, index - 1) in (".", "?")
            literal = _literal(tokens, index + 2)
            loops += member and text in _LOOPS
            multipliers += member and text in _MULTIPLIERS
            splits = splits or text == "split"
            if text == "matches":
                weight += pattern_weight(literal) if literal is not None else 0
                unknown += literal is None
            elif text in _SEARCHES and literal is None:
                searches += 1
            scans += not (text in _CHEAP_CALLS or (text in _PREFIXES and literal is not None))
        elif text == "in" and kind == "name":
            scans += _text(tokens, index + 1) != "["
        elif text in _COMPARISONS and kind == "sign":
            scans += not (
                _is_constant(tokens, index - 1, before=True)
                or _is_constant(tokens, index + 1, before=False)
            )
        elif text == "+" and kind == "sign":
            joins += 1
            scans += 1
    commas = sum(text == "," for _, text in tokens)
    written = sum(len(text) for kind, text in tokens if kind == "quoted")
    return RuleCost(
        len(tokens),
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


def _text(tokens: Sequence[tuple[str, str]], index: int) -> str:
    return tokens[index][1] if 0 <= index < len(tokens) else ""


def _literal(tokens: Sequence[tuple[str, str]], index: int) -> str | None:
    """The value of the argument at `index` if it is a single string literal; else None."""
    if (
        index >= len(tokens)
        or tokens[index][0] != "quoted"
        or _text(tokens, index + 1) not in (")", ",")
    ):
        return None
    text = tokens[index][1]
    prefix = text[: len(text) - len(text.lstrip("rRbB"))]
    text = text[len(prefix) :]
    quote = next(each for each in _QUOTES if text.startswith(each))
    body = text[len(quote) : -len(quote)]
    if prefix.strip("bB"):
        return body
    parts = body.split("\\\\")
    for escape in _PLAIN_ESCAPES:
        parts = [part.replace(escape, " ") for part in parts]
    # Other escapes may represent any character, also a backslash.
    return None if any("\\" in part for part in parts) else "\\".join(parts)


def _is_constant(tokens: Sequence[tuple[str, str]], index: int, *, before: bool) -> bool:
    """Whether one side of a comparison is a constant, with nothing else next to it."""
    if not 0 <= index < len(tokens):
        return False
    kind, text = tokens[index]
    beyond = _text(tokens, index - 1 if before else index + 1)
    if beyond in (".", "+", "[", "?", "("):
        return False
    return kind == "quoted" or text in _CONSTANTS or (text.isascii() and text.isdecimal())
