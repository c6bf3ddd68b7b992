"""Texts that make inefficient parsers slow: unclosed, repeated, alternating, escaped, nested, of
any size.
"""

from collections.abc import Callable, Mapping

Shape = Callable[[int], bytes]
"""Builds a text of about the given number of bytes."""


def _repeat(unit: bytes) -> Shape:
    return lambda size: unit * (size // len(unit) + 1)


def _after(head: bytes, unit: bytes, tail: bytes = b"") -> Shape:
    return lambda size: head + unit * (size // len(unit) + 1) + tail


def _nest(opening: bytes, closing: bytes) -> Shape:
    return lambda size: (
        opening * (size // (len(opening) + len(closing)) + 1)
        + closing * (size // (len(opening) + len(closing)) + 1)
    )


SHAPES: Mapping[str, Shape] = {
    "letters": _repeat(b"a"),
    "letters and an end": _after(b"", b"a", b"!"),
    "alternating letters": _repeat(b"ab"),
    "capitals": _repeat(b"A"),
    "digits": _repeat(b"1"),
    "zeros": _after(b"0", b"0", b"x"),
    "negative": _after(b"-", b"9"),
    "exponents": _repeat(b"1e1"),
    "decimals": _after(b"0.", b"1"),
    "points": _repeat(b"1."),
    "spaces": _repeat(b" "),
    "spaces and an end": _after(b"", b" \t", b"x"),
    "line ends": _repeat(b"\r\n"),
    "nulls": _repeat(b"\x00"),
    "not UTF-8": _repeat(b"\xff"),
    "two bytes": _repeat("\u0130".encode()),
    "three bytes": _repeat("\u3000".encode()),
    "four bytes": _repeat("\U0001f600".encode()),
    "unclosed string": _after(b'"', b"a"),
    "unclosed single string": _after(b"'", b"a"),
    "escaped quotes": _after(b'"', b'\\"'),
    "escaped single quotes": _after(b"'", b"\\'"),
    "escaped quotes and a backslash": _after(b'"', b'\\"', b"\\"),
    "backslashes": _after(b'"', b"\\\\"),
    "quotes": _repeat(b'"'),
    "single quotes": _repeat(b"'"),
    "surrogate escapes": _after(b'"', b"\\ud800", b'"'),
    "control escapes": _after(b'"', b"\\u0000", b'"'),
    "strings": _repeat(b'"a",'),
    "brackets": _repeat(b"["),
    "closed brackets": _nest(b"[", b"]"),
    "braces": _repeat(b'{"a":'),
    "closed braces": _nest(b'{"a":', b"}"),
    "deep unclosed string": lambda size: b"[" * 101 + b'"' + b'\\"' * (size // 2 + 1),
    "parentheses": _repeat(b"("),
    "closed parentheses": _nest(b"(", b")"),
    "elements": _after(b"[", b"1,"),
    "objects": _after(b"[", b'{"a":1},'),
    "percents": _repeat(b"%"),
    "percent codes": _repeat(b"%41"),
    "broken percent codes": _repeat(b"%4"),
    "underscores": _repeat(b"_"),
    "wildcards": _repeat(b"%a_"),
    "semicolons": _repeat(b";"),
    "parameters": _repeat(b";a=b"),
    "unclosed parameters": _repeat(b';a="'),
    "spaced parameters": _repeat(b" ; a"),
    "equals": _repeat(b"="),
    "commas": _repeat(b",a"),
    "colons": _repeat(b":"),
    "addresses": _repeat(b"a:1."),
    "slashes": _repeat(b"/"),
    "segments": _repeat(b"/a"),
    "dots": _repeat(b"/.."),
    "ats": _repeat(b"@"),
    "users": _after(b"//", b"a@"),
    "queries": _repeat(b"?"),
    "fragments": _repeat(b"#"),
    "schemes": _repeat(b"a:"),
    "signs": _repeat(b"-+"),
    "times": _repeat(b"2020-01-01T00:00:00Z"),
    "clocks": _repeat(b"00:"),
    "durations": _repeat(b"P1D"),
    "base64": _repeat(b"QUFB"),
    "padding": _repeat(b"="),
    "pipes": _repeat(b"1|"),
    "notes": _repeat(b"1,1,a"),
    "chunks": _repeat(b"1\r\na\r\n"),
    "extensions": _after(b"1;", b"a"),
}
