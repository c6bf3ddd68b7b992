"""Strict, bounded JSON text (RFC 8259) with the position of every member.

The positions allow a part of the text to be copied byte for byte. The standard library's scanner
does the work at C speed, but it accepts too much. This module also rejects NaN and Infinity,
duplicate keys (the last one would win), lone surrogates (encoding them fails, much later), UTF-16
and byte order marks, numbers with thousands of digits, and deep nesting, which would end in a
RecursionError.
"""

import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple, NoReturn

from headrace.domain.event import InvalidEvent

DEPTH_MAX = 100
"""Maximum nesting of objects and arrays, including the object of the event."""
NUMBER_LENGTH_MAX = 1_024
"""Maximum characters of one number. Common parsers reject numbers of a few thousand digits."""

_whitespace = re.compile(r"[ \t\n\r]*+").match
_mark = re.compile(r"[ \t\n\r]*+([,:\]}])[ \t\n\r]*+").match
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
"""A string, or everything after a quote that is never closed.

The pattern matches at every quote, so each byte is examined once. If it required the closing quote,
every quote inside an unclosed string would be tried up to the end of the text.
"""
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Maps brackets to signed bytes whose running sum is the depth."""
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class Member(NamedTuple):
    """A value and its text, `text[start:end]`. All numbers but small integers are placeholders."""

    value: Any
    start: int
    end: int


class Text(NamedTuple):
    """JSON text that is read part by part.

    `escaped_surrogates` means that strings must be checked for lone surrogates after decoding.
    """

    text: str
    escaped_surrogates: bool

    def value(self, at: int) -> Member:
        """Return the value that starts at `at`."""
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
        """Return the position of the first character from `at` on that is not white space."""
        return _whitespace(self.text, at).end()  # type: ignore[union-attr] # always matches

    def mark(self, at: int, among: str) -> tuple[str, int]:
        """Return the separator or closing bracket after a value, and the position after it.

        Raises `InvalidEvent` if it is not one of `among`.
        """
        match = _mark(self.text, at)
        if match is None or match[1] not in among:
            _refuse("expecting " + " or ".join(map(repr, among)), self.next(at))
        return match[1], match.end()

    def opens(self, at: int, bracket: str) -> int:
        """Return the position after the opening bracket at `at` and any white space.

        Raises `InvalidEvent` if there is no such bracket.
        """
        if not self.text.startswith(bracket, at):
            _refuse(f"expecting {bracket!r}", at)
        return self.next(at + 1)

    def finish(self, at: int) -> None:
        """Raise `InvalidEvent` if the text from `at` on is more than white space."""
        at = self.next(at)
        if at != len(self.text):
            _refuse("extra data", at)

    def members(self, at: int, members_max: int) -> tuple[dict[str, Member], int]:
        """Return the members of the object at `at`, and the position after it."""
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
        """Read the array at `at`, which must extend to the end of the text.

        `take` is called with the start of each element and returns the position after it.
        """
        at = self.opens(at, "[")
        mark = "," if not self.text.startswith("]", at) else ""
        while mark == ",":
            mark, at = self.mark(take(at), ",]")
        self.finish(at if mark else at + 1)


def read(raw: bytes, depth_max: int = DEPTH_MAX) -> Text:
    """Prepare bytes for reading as JSON text.

    Raises `InvalidEvent` unless they are UTF-8 and nested at most `depth_max` levels.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        _refuse("not UTF-8", error.start)
    if raw.count(b"[") + raw.count(b"{") > depth_max:
        _refuse_depth(raw, depth_max)
    return Text(text, _SURROGATE_ESCAPE.search(raw) is not None)


def is_valid(raw: bytes) -> bool:
    """Return whether `raw` is one strict JSON value that can be embedded in an event of a batch."""
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
    return 1 << 64  # outside every range that is checked


def _fraction(digits: str) -> float:
    _bound(digits)
    return 0.5  # only the type is used


def _bound(digits: str) -> None:
    if len(digits) > NUMBER_LENGTH_MAX:
        raise InvalidEvent(
            None, f"must not have numbers of more than {NUMBER_LENGTH_MAX} characters"
        )


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_constant, parse_int=_integer, parse_float=_fraction
)
