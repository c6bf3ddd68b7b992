"""Translates the text of a CEL rule from Kubernetes' dialect to the library's.

Kubernetes escapes field names that CEL does not allow (`self.__namespace__`, `self.a__dash__b`),
and makes `oldSelf` optional for transition rules that ask for it. Both are translated to ordinary
CEL here, token by token, so that string literals are not changed. (pure)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headrace_apiserver.schemas.cel_cost import RuleCost, rule_cost
from headrace_apiserver.schemas.patterns import WEIGHT_MAX

RULE_MAX = 16_384
"""Characters of a rule; the longest in Knative's kinds has under 600."""

_TOKEN = re.compile(
    r"""(?P<quoted>\b(?:[bB]?[rR][bB]?)(?=["'])(?:"{3}(?:[^"]|"(?!""))*+"{3}|'{3}(?:[^']|'(?!''))*+'{3}|(?!"{3}|'{3})(?:"[^"\n]*+"|'[^'\n]*+'))"""
    r"""|"{3}(?:[^"\\]|\\.|"(?!""))*+"{3}|'{3}(?:[^'\\]|\\.|'(?!''))*+'{3}"""
    r"""|(?!"{3}|'{3})(?:"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'))"""
    r"""|(?P<unclosed>["'])"""
    r"""|(?P<comment>//[^\n]*+)|(?P<space>\s++)|(?P<name>[A-Za-z_][A-Za-z0-9_]*+)|(?P<sign>[=!<>]=|&&|\|\||.)""",
    re.DOTALL,
)
"""Every loop is possessive and no two of its branches start alike, so a token costs one pass. An
unterminated string stops the tokenizer: otherwise each of its quotes would be tried as the start of
another string.
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
"""How a rule accesses an optional old value: the variable is then a map that contains it, or is
empty.
"""

Token = tuple[str, str]
"""A token: its kind (`name`, `quoted`, `sign`, `space`, `comment`) and its text."""


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule that is ready to be compiled."""

    text: str
    uses_old: bool
    cost: RuleCost


def read_rule(text: str, *, optional_old: bool = False) -> RuleText:
    """Translate a rule; with `optional_old` its `oldSelf` is an optional value.

    Raises ValueError when it is too long, contains patterns that are too large, or an unterminated
    string.
    """
    if len(text) > RULE_MAX:
        raise ValueError(f"{len(text)} characters; a rule may have {RULE_MAX}")
    parts: list[str] = []
    significant: list[Token] = []
    uses_old = False
    before = ""
    for kind, token in _words(text):
        translated = token
        if kind == "name":
            if before in (".", "?"):
                translated = _unescaped(token)
            elif token == OLD:
                uses_old = True
                translated = _OPTIONAL_OLD if optional_old else OLD
        parts.append(translated)
        if kind not in ("space", "comment"):
            before = token
            significant.append((kind, token))
    cost = rule_cost(significant)
    if cost.pattern_weight > WEIGHT_MAX:
        raise ValueError(
            f"its patterns are too large: about {cost.pattern_weight} instructions; those of a rule"
            f" may have {WEIGHT_MAX}"
        )
    return RuleText("".join(parts), uses_old, cost)


def _words(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
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
