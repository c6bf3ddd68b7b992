"""The text of a rule in CEL, as Kubernetes writes it, made into what the library reads.

Kubernetes escapes field names that CEL would not take (`self.__namespace__`, `self.a__dash__b`),
and gives transition rules an optional `oldSelf` when they ask for it. Both become ordinary CEL
here, token by token, so that nothing inside quotes is touched. (pure)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headrace_apiserver.schemas.cel_cost import RuleCost, rule_cost
from headrace_apiserver.schemas.patterns import WEIGHT_MAX

RULE_MAX = 16_384
"""Characters of a rule; the longest in Knative's kinds has under 600."""

_WORD = re.compile(
    r"""(?P<quoted>\b(?:[bB]?[rR][bB]?)(?=["'])(?:"{3}(?:[^"]|"(?!""))*+"{3}|'{3}(?:[^']|'(?!''))*+'{3}|(?!"{3}|'{3})(?:"[^"\n]*+"|'[^'\n]*+'))"""
    r"""|"{3}(?:[^"\\]|\\.|"(?!""))*+"{3}|'{3}(?:[^'\\]|\\.|'(?!''))*+'{3}"""
    r"""|(?!"{3}|'{3})(?:"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'))"""
    r"""|(?P<unclosed>["'])"""
    r"""|(?P<remark>//[^\n]*+)|(?P<space>\s++)|(?P<name>[A-Za-z_][A-Za-z0-9_]*+)|(?P<sign>[=!<>]=|&&|\|\||.)""",
    re.DOTALL,
)
"""Every loop is possessive and no two of its branches begin alike, so a token costs one pass. A
string without an end stops the reading: otherwise each of its quotes would be tried as the start of
another.
"""
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
OLD = "oldSelf"
_OPTIONAL_OLD = f"{OLD}[?'value']"
"""How a rule reaches an optional old value: the variable is then a map that has it or is empty."""

Word = tuple[str, str]
"""A kind (`name`, `quoted`, `sign`, `space`, `remark`) and the text."""


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule ready to be compiled."""

    text: str
    uses_old: bool
    cost: RuleCost


def read_rule(text: str, *, optional_old: bool = False) -> RuleText:
    """Translate a rule; `optional_old`: its `oldSelf` is an optional value.

    Raises ValueError when it is too long, has too large patterns, or has a string without an end.
    """
    if len(text) > RULE_MAX:
        raise ValueError(f"{len(text)} characters; a rule may have {RULE_MAX}")
    parts: list[str] = []
    significant: list[Word] = []
    uses_old = False
    before = ""
    for kind, word in _words(text):
        translated = word
        if kind == "name":
            if before in (".", "?"):
                translated = _unescaped(word)
            elif word == OLD:
                uses_old = True
                translated = _OPTIONAL_OLD if optional_old else OLD
        parts.append(translated)
        if kind not in ("space", "remark"):
            before = word
            significant.append((kind, word))
    cost = rule_cost(significant)
    if cost.pattern_weight > WEIGHT_MAX:
        raise ValueError(
            f"its patterns are too large: about {cost.pattern_weight} instructions; those of a rule"
            f" may have {WEIGHT_MAX}"
        )
    return RuleText("".join(parts), uses_old, cost)


def _words(text: str) -> Iterator[Word]:
    for match in _WORD.finditer(text):
        if match.lastgroup == "unclosed":
            raise ValueError(
                f"Syntax error: the string that begins at character {match.start() + 1} has no end"
            )
        yield str(match.lastgroup), match.group()


def _unescaped(name: str) -> str:
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _RESERVED:
        return f"`{name[2:-2]}`"
    plain = _ESCAPE.sub(lambda found: _ESCAPES[found.group()], name)
    return f"`{plain}`" if plain != name else name
