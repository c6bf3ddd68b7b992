"""The list of words that are not used: it finds them in prose and in names, and nothing else."""

import pytest

from tests.unit.tree.words import INSTEAD, found


@pytest.mark.parametrize(
    "text",
    [
        "whoever asks",
        "def tell_them():",
        "class ToldSoFar:",
        "It goes on.",
        "made Anew",
        "# of ours",
    ],
)
def test_a_listed_word_is_found(text: str) -> None:
    """In sentences, in identifiers, whatever the case; with the line and what to write instead."""
    ((line, _, instead),) = found(f"first\n{text}")
    assert 2 == line
    assert instead in INSTEAD.values()


@pytest.mark.parametrize(
    "text", ["intelligence", "amendment", "retold", "a stand-in", "reason: ParkingRefused", ""]
)
def test_other_text_passes(text: str) -> None:
    """Parts of longer words, and names that stored data depends on."""
    assert [] == list(found(text))
