"""JSON values at and beyond the limits of stores and parsers: numbers, text and nesting."""

import random
from typing import Any


def nested(depth: int, value: Any = 1) -> Any:
    """`value` nested in this many lists."""
    for _ in range(depth):
        value = [value]
    return value


HOSTILE_VALUES: tuple[Any, ...] = (
    1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**64,
    10**299,
    10**300,
    -(10**301),
    10**4_299,
    10**4_300,
    1.5,
    5e-324,
    1.7976931348623157e308,
    -0.0,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    "\x00\x1f\x7f\u2028",
    "\ud800",
    "\udc00\ud800",
    "a\udfffb",
    "\U0010ffff",
    "x" * 300_000,
    "x" * 999_000,
    "x" * 1_100_000,
    "\x01" * 250_000,
    {"\ud800": 1},
    {"": {"": None}},
    {"a": [True, False, None, {}, []]},
    nested(50),
    nested(61),
    nested(62),
    nested(63),
    nested(64),
    nested(5_000),
    [0] * 19_980,
    [0] * 19_990,
    [0] * 19_995,
    [0] * 20_001,
    "[" * 500 + '"' * 500,
)
"""Each is either rejected or stored unchanged."""


def generated_values(source: random.Random, count: int) -> list[Any]:
    """Random values; many contain something that no store accepts."""
    return [_generated(source, 4) for _ in range(count)]


def _generated(source: random.Random, depth: int) -> Any:
    choice = source.randrange(10 if depth else 7)
    match choice:
        case 0:
            return source.choice((True, False, None))
        case 1:
            return source.randrange(-(10**6), 10**6)
        case 2:
            return source.choice((-1, 1)) * source.randrange(10 ** source.randrange(1, 400))
        case 3:
            return source.choice((-1, 1)) * source.random() * 10.0 ** source.randrange(-300, 300)
        case 4 | 5:
            return _text(source)
        case 6:
            return source.choice(HOSTILE_VALUES[:20])
        case 7:
            return [_generated(source, depth - 1) for _ in range(source.randrange(5))]
    return {_text(source): _generated(source, depth - 1) for _ in range(source.randrange(5))}


def _text(source: random.Random) -> str:
    high = source.choice((0x7F, 0xFF, 0xD7FF, 0xDFFF, 0x10FFFF))
    return "".join(chr(source.randrange(high + 1)) for _ in range(source.randrange(12)))
