"""The first step of compilation: split the text into tokens.

The lexer is written by hand and works in one pass without regular expressions. Keywords are
recognised in any case (CESQL 1.0, section 2). Names keep their spelling, because only the next
token shows whether a name is an attribute or a function.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.cesql.errors import EXPRESSION_LENGTH_MAX, ParseError


class TokenKind(StrEnum):
    """The kind of a token. The values are worded for messages such as "expected …, found …"."""

    STRING = "a string"
    INTEGER = "an integer"
    NAME = "a name"
    KEYWORD = "a keyword"
    SYMBOL = "a symbol"
    END = "the end"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text, from `start` up to but not including `end`.

    `text` is the keyword in upper case, the symbol, the name as spelled, or the content of a string
    with its escapes resolved.
    """

    kind: TokenKind
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        if self.kind is TokenKind.END:
            return "the end of the expression"
        return repr(self.text[:40])


KEYWORDS = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"})
_SPACE = frozenset(" \t\r\n")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_HINTS = {
    "&": "write AND",
    "|": "write OR",
    ".": "text needs quotes, as in 'order.created'",
}
"""What to write instead of characters of other languages."""
_SYMBOLS_OF_TWO = frozenset({"!=", "<>", "<=", ">="})
_SYMBOLS_OF_ONE = frozenset("()+-*/%,=<>")


def tokenise(text: str) -> Iterator[Token]:
    """Yield the tokens of `text`, ending with one of kind END.

    Raises `ParseError` if the text is too long, a string is not closed, or a character belongs to
    no token.
    """
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise ParseError(
            f"the expression has {len(text)} characters, at most {EXPRESSION_LENGTH_MAX} are taken",
            EXPRESSION_LENGTH_MAX,
        )
    at, end = 0, len(text)
    while at < end:
        character = text[at]
        if character in _SPACE:
            at += 1
            continue
        token = (
            _string(text, at)
            if character in "'\""
            else _word(text, at)
            if character in _WORD
            else _symbol(text, at)
        )
        yield token
        at = token.end
    yield Token(TokenKind.END, "", end, end)


def _string(text: str, start: int) -> Token:
    """Read a quoted string.

    A backslash is resolved only before the quote character that opened the string. Elsewhere it
    stays, and LIKE interprets it.
    """
    quote, at = text[start], start + 1
    content: list[str] = []
    while at < len(text):
        character = text[at]
        if character == quote:
            return Token(TokenKind.STRING, "".join(content), start, at + 1)
        if character == "\\" and at + 1 < len(text):
            escaped = text[at + 1]
            content.append(quote if escaped == quote else character + escaped)
            at += 2
            continue
        content.append(character)
        at += 1
    raise ParseError(
        f"the string is not closed; it needs another {quote} (a quote inside is written \\{quote})",
        start,
    )


def _word(text: str, start: int) -> Token:
    at = start
    while at < len(text) and text[at] in _WORD:
        at += 1
    word = text[start:at]
    if word.isdigit():
        return Token(TokenKind.INTEGER, word, start, at)
    if (upper := word.upper()) in KEYWORDS:
        return Token(TokenKind.KEYWORD, upper, start, at)
    return Token(TokenKind.NAME, word, start, at)


def _symbol(text: str, start: int) -> Token:
    if (two := text[start : start + 2]) in _SYMBOLS_OF_TWO:
        return Token(TokenKind.SYMBOL, two, start, start + 2)
    if (one := text[start]) in _SYMBOLS_OF_ONE:
        return Token(TokenKind.SYMBOL, one, start, start + 1)
    hint = _HINTS.get(one)
    raise ParseError(f"{one!r} has no meaning here" + (f"; {hint}" if hint else ""), start)
