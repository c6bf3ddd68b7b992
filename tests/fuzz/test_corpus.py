"""Every seed of the corpus, and every input that once failed, is read by its target without
unexpected errors.
"""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_read(name: str) -> None:
    """Inputs in `corpus/<target>`; those whose names begin with `found` failed once."""
    seeds = sorted((CORPUS / name).iterdir())
    assert seeds
    for seed in seeds:
        try:
            TARGETS[name].run(seed.read_bytes())
        except BaseException as error:
            error.add_note(str(seed))
            raise
    TARGETS[name].run(b"")


def test_every_folder_is_a_target() -> None:
    """A renamed target must rename its directory."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
