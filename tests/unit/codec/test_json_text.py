"""Reading JSON text from outside takes time proportional to its size, whatever it contains."""

from collections.abc import Callable
from functools import partial

import pytest

from headrace.codec import json_text
from headrace.domain.event import InvalidEvent
from tests.support.complexity import assert_linear

LARGEST = 1_048_576
DEEP = b"[" * (json_text.DEPTH_MAX + 1)

UNCLOSED = {
    "escaped quotes": lambda size: DEEP + b'"' + b'\\"' * (size // 2),
    "escaped quotes and a lone backslash": lambda size: DEEP + b'"' + b'\\"' * (size // 2) + b"\\",
    "quotes": lambda size: DEEP + b'"' * (size // 2 * 2 + 1),
    "escapes": lambda size: DEEP + b'"' + b"\\\\" * (size // 2),
    "strings": lambda size: DEEP + b'"[",' * (size // 4) + b'"',
    "text": lambda size: DEEP + b'"' + b"a" * size,
    "brackets": lambda size: b"[" * size,
}


@pytest.mark.parametrize("build", UNCLOSED.values(), ids=UNCLOSED.keys())
def test_the_depth_of_a_text_with_an_unclosed_string_is_found_in_linear_time(
    build: Callable[[int], bytes],
) -> None:
    """The text is refused, after a time proportional to its size."""
    assert_linear(lambda size: partial(json_text.is_valid, build(size)), largest=LARGEST)


def test_brackets_in_strings_do_not_count() -> None:
    """They do not count after an escaped quote or in an unclosed string either.

    The brackets around the strings count.
    """
    flat = b'["' + b"[" * 200 + b'\\"' + b"{" * 200 + b'"]'
    assert json_text.is_valid(flat)
    json_text.read(flat[:-2])  # Not closed: the reader of the text rejects it.
    with pytest.raises(InvalidEvent, match="deeper than 100 levels"):
        json_text.read(DEEP + flat)
    with pytest.raises(InvalidEvent, match="deeper than 100 levels"):
        json_text.read(b'"\\\\"' + DEEP)
