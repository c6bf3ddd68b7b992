"""The second step of compilation: build a tree from tokens by precedence climbing.

The precedence is that of CESQL 1.0, 3.6. Operators of the same level, including AND, OR and XOR,
are grouped from left to right. The ANTLR grammar that is published with the specification, and with
it the Go library in Knative, groups those three from right to left. There, `a AND b OR c` is `a AND
(b OR c)`; here and in the text of the specification, it is `(a AND b) OR c`. With parentheses, both
agree.
"""

from headrace.domain.cesql.errors import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, NODES_MAX, ParseError
from headrace.domain.cesql.lexer import Token, TokenKind, tokenise
from headrace.domain.cesql.nodes import (
    Attribute,
    Binary,
    Call,
    Connective,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Node,
    Not,
    Operator,
    depth,
)

LOGIC, COMPARISON, SUM, PRODUCT, MEMBERSHIP, PATTERN, PREFIX = 1, 2, 3, 4, 5, 6, 7
"""Precedence levels; a higher level binds more tightly. EXISTS takes a name, so its level between
IN and LIKE has no effect.
"""

OPERATORS: dict[str, tuple[int, Operator]] = {
    "*": (PRODUCT, Operator.MULTIPLY),
    "/": (PRODUCT, Operator.DIVIDE),
    "%": (PRODUCT, Operator.REMAINDER),
    "+": (SUM, Operator.ADD),
    "-": (SUM, Operator.SUBTRACT),
    "=": (COMPARISON, Operator.EQUAL),
    "!=": (COMPARISON, Operator.UNEQUAL),
    "<>": (COMPARISON, Operator.UNEQUAL),
    "<": (COMPARISON, Operator.LESS),
    "<=": (COMPARISON, Operator.LESS_OR_EQUAL),
    ">": (COMPARISON, Operator.GREATER),
    ">=": (COMPARISON, Operator.GREATER_OR_EQUAL),
}
_CONNECTIVES = frozenset(Connective)
_INTEGER_DIGITS_MAX = 10


def parse(text: str) -> Node:
    """Return the tree of an expression.

    Raises `ParseError`, which gives the position and what was expected there.
    """
    parser = _Parser(text)
    node = parser.expression(LOGIC)
    parser.expect(TokenKind.END, "")
    if depth(node) > DEPTH_MAX:
        raise ParseError(
            f"the expression nests deeper than {DEPTH_MAX} levels; split it into several filters", 0
        )
    return node


class _Parser:
    """The tokens, the current position, and the counts that are checked against limits."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokenise(text))
        self._at = 0
        self._nodes = 0
        self._levels = 0

    def expression(self, holds: int) -> Node:
        """Parse an operand and all operators after it that bind at least as tightly as `holds`."""
        self._levels += 1
        if self._levels > DEPTH_MAX:
            raise self._error(
                f"the expression nests deeper than {DEPTH_MAX} levels; split it into several"
                " filters"
            )
        node = self._operand()
        while True:
            token = self._token
            if token.kind is TokenKind.SYMBOL and token.text in OPERATORS:
                binds, operator = OPERATORS[token.text]
                if binds < holds:
                    break
                self._at += 1
                node = self._counted(Binary(operator, node, self.expression(binds + 1)))
            elif token.kind is TokenKind.KEYWORD and token.text in _CONNECTIVES:
                if holds > LOGIC:
                    break
                node = self._logic(node)
            elif (binds := self._binds()) and binds >= holds:
                node = self._test(node)
            else:
                break
        self._levels -= 1
        return node

    def expect(self, kind: TokenKind, text: str) -> Token:
        """Consume the next token. Raises `ParseError` if it is not the given one."""
        token = self._token
        if token.kind is not kind or (text and token.text != text):
            wanted = (
                repr(text)
                if text
                else (
                    "an operator or the end of the expression"
                    if kind is TokenKind.END
                    else kind.value
                )
            )
            raise self._error(f"expected {wanted}, found {token}")
        self._at += 1
        return token

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _error(self, reason: str) -> ParseError:
        return ParseError(reason, self._token.start)

    def _counted(self, node: Node) -> Node:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._error(
                f"the expression has more than {NODES_MAX} parts; split it into several filters"
            )
        return node

    def _binds(self) -> int:
        """Return how tightly a LIKE or IN at the current position binds, or 0 if there is none."""
        ahead = 1 if self._is_keyword("NOT") else 0
        token = self._tokens[min(self._at + ahead, len(self._tokens) - 1)]
        if token.kind is not TokenKind.KEYWORD:
            return 0
        return PATTERN if token.text == "LIKE" else MEMBERSHIP if token.text == "IN" else 0

    def _is_keyword(self, text: str) -> bool:
        return self._token.kind is TokenKind.KEYWORD and self._token.text == text

    def _is_symbol(self, text: str) -> bool:
        return self._token.kind is TokenKind.SYMBOL and self._token.text == text

    def _logic(self, first: Node) -> Node:
        rest: list[tuple[Connective, Node]] = []
        while self._token.kind is TokenKind.KEYWORD and self._token.text in _CONNECTIVES:
            connective = Connective(self._token.text)
            self._at += 1
            rest.append((connective, self.expression(COMPARISON)))
            self._counted(first)
        return Logic(first, tuple(rest))

    def _test(self, operand: Node) -> Node:
        """Parse LIKE, NOT LIKE, IN or NOT IN after its operand."""
        negated = self._is_keyword("NOT")
        self._at += 2 if negated else 1
        if self._tokens[self._at - 1].text == "LIKE":
            if self._token.kind is not TokenKind.STRING:
                raise self._error(
                    f"the pattern of LIKE must be a string in quotes, found {self._token}"
                )
            return self._counted(Like(operand, self.expect(TokenKind.STRING, "").text, negated))
        self.expect(TokenKind.SYMBOL, "(")
        return self._counted(In(operand, self._list(), negated))

    def _list(self) -> tuple[Node, ...]:
        """Parse a comma-separated list of at least one expression, and the closing parenthesis."""
        members = [self.expression(LOGIC)]
        while self._is_symbol(","):
            self._at += 1
            members.append(self.expression(LOGIC))
        self.expect(TokenKind.SYMBOL, ")")
        return tuple(members)

    def _operand(self) -> Node:
        token = self._token
        match token.kind:
            case TokenKind.STRING:
                self._at += 1
                return self._counted(Literal(token.text))
            case TokenKind.INTEGER:
                return self._integer("")
            case TokenKind.NAME:
                return self._name()
            case TokenKind.KEYWORD:
                return self._keyword()
            case TokenKind.SYMBOL:
                return self._prefixed()
            case _:
                raise self._error(f"expected a value, found {token}")

    def _keyword(self) -> Node:
        token = self._token
        match token.text:
            case "TRUE" | "FALSE":
                self._at += 1
                return self._counted(Literal(token.text == "TRUE"))
            case "NOT":
                self._at += 1
                return self._counted(Not(self.expression(PREFIX)))
            case "EXISTS":
                self._at += 1
                return self._counted(Exists(self._attribute_name(self.expect(TokenKind.NAME, ""))))
            case _:
                raise self._error(f"expected a value before {token.text}")

    def _prefixed(self) -> Node:
        sign = self._token
        if sign.text == "(":
            self._at += 1
            node = self.expression(LOGIC)
            self.expect(TokenKind.SYMBOL, ")")
            return node
        if sign.text not in ("-", "+"):
            hint = "; equality is a single =" if sign.text == "=" else ""
            raise self._error(f"expected a value, found {sign}{hint}")
        self._at += 1
        if self._token.kind is TokenKind.INTEGER and self._token.start == sign.end:
            return self._integer(sign.text)
        if sign.text == "+":
            raise self._error("a plus sign must stand directly before the digits of an integer")
        return self._counted(Negate(self.expression(PREFIX)))

    def _integer(self, sign: str) -> Node:
        digits = self._token.text.lstrip("0") or "0"
        if (
            len(digits) > _INTEGER_DIGITS_MAX
            or not INTEGER_MIN <= (value := int(sign + digits)) <= INTEGER_MAX
        ):
            raise self._error(
                f"{sign}{digits[:20]} does not fit 32 bits, the range is {INTEGER_MIN} to"
                f" {INTEGER_MAX}"
            )
        self._at += 1
        return self._counted(Literal(value))

    def _name(self) -> Node:
        token = self._token
        self._at += 1
        if not self._is_symbol("("):
            return self._counted(Attribute(self._attribute_name(token)))
        if not token.text.replace("_", "").isalpha() or token.text[0] == "_":
            raise ParseError(
                f"{token} cannot name a function: letters and underscores only, a letter first",
                token.start,
            )
        self._at += 1
        if self._is_symbol(")"):
            self._at += 1
            return self._counted(Call(token.text.upper(), ()))
        return self._counted(Call(token.text.upper(), self._list()))

    def _attribute_name(self, token: Token) -> str:
        """Return the name of an attribute, in lower case.

        Any case is accepted, as in the published grammar and the Go library.
        """
        if "_" in token.text:
            raise ParseError(
                f"{token} cannot name an attribute: letters and digits only; a function needs its"
                " parentheses",
                token.start,
            )
        return token.text.lower()
