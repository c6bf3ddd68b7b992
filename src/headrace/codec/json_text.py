"""Strict JSON text: what RFC 8259 says, bounded, and with the place of every member, so that a part
can be taken out byte for byte.

The standard library's scanner does the work at C speed, but accepts too much. Closed here: NaN and
Infinity, duplicate keys (the last would win), lone surrogates (they explode when encoded, much
later), UTF-16 and byte order marks, numbers of thousands of digits, and depth, which would end in a
RecursionError.
"""

import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple, NoReturn

from headrace.domain.event import InvalidEvent

DEPTH_MAX = 100
"""Objects and arrays inside each other, the event's own among them."""
NUMBER_LENGTH_MAX = 1_024
"""Characters of one number; common readers refuse a few thousand."""

_whitespace = re.compile(r"[ \t\n\r]*+").match
_mark = re.compile(r"[ \t\n\r]*+([,:\]}])[ \t\n\r]*+").match
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
"""A string, or all that follows a quote that is never closed. It matches at every quote, so each
byte is looked at once; were the closing quote required, every quote inside an unclosed string would
be tried to the end of the text.
"""
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Brackets as signed bytes, whose running sum is the depth."""
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class Member(NamedTuple):
    """A value and the text it was read from, `text[start:end]`. Numbers that are no small integer
    are only placeholders.
    """

    value: Any
    start: int
    end: int


class Text(NamedTuple):
    """JSON text ready to be walked. `escaped_surrogates` says that strings must be looked through
    once they are decoded.
    """

    text: str
    escaped_surrogates: bool

    def value(self, at: int) -> Member:
        """The value that starts at `at`."""
        try:
            value, end = _decoder.raw_decode(self.text, at)
        except json.JSONDecodeError as error:
            _refuse(f"{error.msg[:1].lower()}{error.msg[1:]}", error.pos)
        except RecursionError:
            raise InvalidEvent(None, f"must not nest JSON deeper than {DEPTH_MAX} levels") from None
        if self.escaped_surrogates:
            _refuse_lone_surrogates(value, at)
        return Member(value, at, end)

    def next(self, at: int) -> int:
        """The place of the first character from `at` on that is no white space."""
        return _whitespace(self.text, at).end()  # type: ignore[union-attr] # it matches nothing, at worst

    def mark(self, at: int, among: str) -> tuple[str, int]:
        """The separator or closing bracket after a value, which must be one of these, and where the
        text continues after it.
        """
        match = _mark(self.text, at)
        if match is None or match[1] not in among:
            _refuse("expecting " + " or ".join(map(repr, among)), self.next(at))
        return match[1], match.end()

    def opens(self, at: int, bracket: str) -> int:
        """The place behind an opening bracket and white space, which must be at `at`."""
        if not self.text.startswith(bracket, at):
            _refuse(f"expecting {bracket!r}", at)
        return self.next(at + 1)

    def finish(self, at: int) -> None:
        """Refuse anything but white space from `at` on."""
        at = self.next(at)
        if at != len(self.text):
            _refuse("extra data", at)

    def members(self, at: int, members_max: int) -> tuple[dict[str, Member], int]:
        """The members of the object at `at`, and where it ends."""
        at = self.opens(at, "{")
        found: dict[str, Member] = {}
        if self.text.startswith("}", at):
            return found, at + 1
        mark = ","
        while mark == ",":
            name, _, end = self.value(at)
            if not isinstance(name, str):
                _refuse("expecting a member name in double quotes", at)
            if name in found:
                raise InvalidEvent(name, "must be given once")
            if len(found) == members_max:
                raise InvalidEvent(None, f"must have at most {members_max} members")
            _, at = self.mark(end, ":")
            member = found[name] = self.value(at)
            mark, at = self.mark(member.end, ",}")
        return found, at

    def elements(self, at: int, take: Callable[[int], int]) -> None:
        """Walk the array at `at`, to the end of the text: `take` gets the start of each element and
        says where it ended.
        """
        at = self.opens(at, "[")
        mark = "," if not self.text.startswith("]", at) else ""
        while mark == ",":
            mark, at = self.mark(take(at), ",]")
        self.finish(at if mark else at + 1)


def read(raw: bytes, depth_max: int = DEPTH_MAX) -> Text:
    """Take bytes as JSON text; raises `InvalidEvent` unless they are UTF-8 and of bearable
    depth.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        _refuse("not UTF-8", error.start)
    if raw.count(b"[") + raw.count(b"{") > depth_max:
        _refuse_depth(raw, depth_max)
    return Text(text, _SURROGATE_ESCAPE.search(raw) is not None)


def is_valid(raw: bytes) -> bool:
    """Whether `raw` is one strict JSON value, which may stand inside of an event, also of one in a
    batch.
    """
    try:
        text = read(raw, DEPTH_MAX - 2)
        text.finish(text.value(text.next(0)).end)
    except InvalidEvent:
        return False
    return True


def _refuse(fault: str, at: int) -> NoReturn:
    raise InvalidEvent(None, f"must be strict JSON in UTF-8: {fault} at character {at}")


def _refuse_depth(raw: bytes, depth_max: int) -> None:
    steps = memoryview(_STRING.sub(b"", raw).translate(_STEPS, _NOT_BRACKETS)).cast("b")
    if max(accumulate(steps), default=0) > depth_max:
        raise InvalidEvent(None, f"must not nest JSON deeper than {depth_max} levels")


def _refuse_lone_surrogates(value: object, at: int) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        _refuse("lone surrogate in a string", at)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidEvent(
            None, "must be strict JSON in UTF-8: a member name is repeated in one object"
        )
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidEvent(None, f"must be strict JSON in UTF-8: {name} is no JSON value")


def _integer(digits: str) -> int:
    if len(digits) <= 20:
        return int(digits)
    _bound(digits)
    return 1 << 64  # out of every range that is asked for


def _fraction(digits: str) -> float:
    _bound(digits)
    return 0.5  # only its type is looked at


def _bound(digits: str) -> None:
    if len(digits) > NUMBER_LENGTH_MAX:
        raise InvalidEvent(
            None, f"must not have numbers of more than {NUMBER_LENGTH_MAX} characters"
        )


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_constant, parse_int=_integer, parse_float=_fraction
)
