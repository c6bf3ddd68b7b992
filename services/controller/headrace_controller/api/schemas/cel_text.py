"""The text of a rule in CEL, as Kubernetes writes it, made into what the library reads; and what the text alone tells about its cost.

Kubernetes escapes field names that CEL would not take (`self.__namespace__`, `self.a__dash__b`), and gives transition rules an optional
`oldSelf` when they ask for it. Both become ordinary CEL here, token by token, so that nothing inside quotes is touched. (pure)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

RULE_MAX = 16_384
"""Characters of a rule; the longest in Knative's kinds has under 600."""

_WORD = re.compile(
    r"""(?P<quoted>\b(?:[bB]?[rR][bB]?)(?=["'])(?:"{3}(?:[^"]|"(?!""))*+"{3}|'{3}(?:[^']|'(?!''))*+'{3}|(?!"{3}|'{3})(?:"[^"\n]*+"|'[^'\n]*+'))"""
    r"""|"{3}(?:[^"\\]|\\.|"(?!""))*+"{3}|'{3}(?:[^'\\]|\\.|'(?!''))*+'{3}"""
    r"""|(?!"{3}|'{3})(?:"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'))"""
    r"""|(?P<unclosed>["'])"""
    r"""|(?P<remark>//[^\n]*+)|(?P<space>\s++)|(?P<name>[A-Za-z_][A-Za-z0-9_]*+)|(?P<sign>.)""",
    re.DOTALL,
)
"""Every loop is possessive and no two of its branches begin alike, so a token costs one pass. A string without an end stops the reading:
otherwise each of its quotes would be tried as the start of another."""
_ESCAPES = {"__underscores__": "__", "__dot__": ".", "__dash__": "-", "__slash__": "/"}
_ESCAPE = re.compile("|".join(_ESCAPES))
_RESERVED = frozenset(
    (
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    )
)
_LOOPS = frozenset(("all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap", "transformMapEntry"))
_MULTIPLIERS = frozenset(("replace", "join", "format"))

OLD = "oldSelf"
_OPTIONAL_OLD = f"{OLD}[?'value']"
"""How a rule reaches an optional old value: the variable is then a map that has it or is empty."""


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule ready to be compiled."""

    text: str
    uses_old: bool
    loops: int
    """Comprehensions in it."""
    joins: int
    """Signs `+` in it, which may join texts or lists."""
    multipliers: int
    """Calls whose result may be as long as the product of their operands."""

    def bytes_max(self, size: int, count: int, loop_turns_max: int) -> int:
        """The most that evaluation may hold in memory for a value of `size` bytes in `count` parts."""
        turns = min(count, loop_turns_max) if self.loops and (self.joins or self.multipliers) else 1
        per_loop = self.joins // max(self.loops, 1) + 1
        growth: int = per_loop ** min(self.loops, 40)
        multiplied: int = max(size, 1) ** (min(self.multipliers, 4) + 1)
        return turns * multiplied * growth


def read_rule(text: str, *, optional_old: bool = False) -> RuleText:
    """Translate a rule; `optional_old`: its `oldSelf` is an optional value. Raises ValueError when it is too long or a string has no end."""
    if len(text) > RULE_MAX:
        raise ValueError(f"{len(text)} characters; a rule may have {RULE_MAX}")
    parts: list[str] = []
    uses_old = False
    loops = joins = multipliers = 0
    before = ""
    for kind, word in _words(text):
        if kind == "name":
            if before in (".", "?"):
                loops += word in _LOOPS
                multipliers += word in _MULTIPLIERS
                word = _unescaped(word)
            elif word == OLD:
                uses_old = True
                word = _OPTIONAL_OLD if optional_old else OLD
        elif word == "+":
            joins += 1
        parts.append(word)
        if kind not in ("space", "remark"):
            before = word
    return RuleText("".join(parts), uses_old, loops, joins, multipliers)


def _words(text: str) -> Iterator[tuple[str, str]]:
    for match in _WORD.finditer(text):
        if match.lastgroup == "unclosed":
            raise ValueError(f"Syntax error: the string that begins at character {match.start() + 1} has no end")
        yield str(match.lastgroup), match.group()


def _unescaped(name: str) -> str:
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _RESERVED:
        return f"`{name[2:-2]}`"
    plain = _ESCAPE.sub(lambda found: _ESCAPES[found.group()], name)
    return f"`{plain}`" if plain != name else name
