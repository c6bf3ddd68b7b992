"""What reads bytes from outside in the control plane and the CLI costs time in proportion to them, whatever they are.

`READERS` lists each reader with the size that its input may have; every shape of `SHAPES`, and the reader's own, is doubled up to it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from headrace.domain.resources import ResourceKind
from headrace_controller.api.schemas.cel import rule_problem
from headrace_controller.api.schemas.cel_text import RULE_MAX, read_rule
from headrace_controller.api.statuses import StatusError
from headrace_controller.api.watching.selectors import TEXT_MAX as SELECTOR_MAX
from headrace_controller.api.watching.selectors import read_fields, read_labels
from tests.support.growth import assert_linear

GADGET = ResourceKind(group="shop.dev", version="v1", kind="Gadget", plural="gadgets", singular="gadget")

Shape = Callable[[int], str]
"""An adversarial text of about so many characters."""


def repeated(unit: str, *, before: str = "", after: str = "") -> Shape:
    """`unit` again and again."""
    return lambda size: before + unit * (max(size - len(before) - len(after), 0) // len(unit)) + after


SHAPES: Mapping[str, Shape] = {
    "one letter": repeated("a"),
    "letters, then a sign": repeated("a", after="!"),
    "digits": repeated("1", after="x"),
    "spaces": repeated(" "),
    "spaces, then a letter": repeated(" ", after="a"),
    "tabs and spaces": repeated("\t "),
    "lines": repeated("\n"),
    "unclosed quote": repeated("a", before='"'),
    "escaped quotes, unclosed": repeated('\\"', before='"'),
    "escaped letters, unclosed triple quote": repeated("\\a", before='"""'),
    "quotes": repeated('"'),
    "single quotes": repeated("'"),
    "both quotes in turn": repeated("\"'"),
    "backslashes": repeated("\\"),
    "opening brackets": repeated("["),
    "opening braces": repeated("{"),
    "opening parentheses": repeated("("),
    "pairs of brackets": repeated("[]"),
    "commas": repeated(","),
    "dots": repeated("."),
    "letters and dots": repeated("a."),
    "letters and hyphens": repeated("a-", after="!"),
    "slashes": repeated("/"),
    "equals signs": repeated("="),
    "percent": repeated("%"),
    "at signs": repeated("a@"),
    "colons": repeated("a:"),
    "outside of ASCII": repeated("é"),
}


@dataclass(frozen=True)
class Reader:
    """Something that reads text from outside."""

    read: Callable[[str], object]
    largest: int
    """Characters of the largest text that reaches it."""
    own: Mapping[str, Shape] = field(default_factory=dict)
    """Shapes for its grammar."""
    refusals: tuple[type[Exception], ...] = (ValueError, StatusError)
    patterns: tuple[str, ...] = ()
    """Regular expressions that it tries, by module and name."""


READERS: Mapping[str, Reader] = {
    "rule in CEL": Reader(
        read_rule,
        RULE_MAX,
        own={
            "unclosed raw triple quote": repeated('""a', before='r"""'),
            "triple quotes between escapes": repeated("\\'''", before="'''"),
            "empty strings": repeated("''"),
            "prefixes of strings": repeated('rb"'),
            "remarks": repeated("//\n"),
            "field names": repeated(".a__dot__"),
        },
    ),
    "rule in CEL, compiled": Reader(rule_problem, RULE_MAX, own={"sum": repeated("1+", after="1"), "not": repeated("!", after="true")}),
    "label selector": Reader(
        read_labels,
        SELECTOR_MAX,
        own={
            "spaces between words": lambda size: "a" + " " * (size // 2) + "in" + " " * (size // 2) + "(b)",
            "open list": repeated("b,", before="a in ("),
            "lists": repeated("a in (b),", after="c"),
        },
    ),
    "field selector": Reader(
        lambda text: read_fields(text, GADGET),
        SELECTOR_MAX,
        own={"escapes": repeated("\\,", before="metadata.name="), "terms": repeated("metadata.name=a,"), "no sign": repeated("a\\,")},
    ),
}

CASES = [(name, shape) for name, reader in READERS.items() for shape in (*SHAPES, *reader.own)]


@pytest.mark.parametrize(("name", "shape"), CASES, ids=[f"{name}: {shape}" for name, shape in CASES])
def test_time_grows_with_the_text_at_most(name: str, shape: str) -> None:
    reader = READERS[name]
    make = reader.own.get(shape) or SHAPES[shape]

    def prepare(size: int) -> Callable[[], object]:
        text = make(min(size, reader.largest))

        def work() -> None:
            with suppress(*reader.refusals):
                reader.read(text)

        return work

    # One size more than the largest: that a text beyond the limit is refused costs no more than reading it.
    assert_linear(prepare, largest=2 * reader.largest)
