"""Words that this project does not use: `python -m tests.unit.tree.words [PATH ...]`.

The prose follows the documentation of Kubernetes and Kafka: standard nouns, current English. Each
entry is a pattern and what to write instead. `make check` runs it over code and documents.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
SUFFIXES = (".md", ".py", ".toml", ".yaml", ".yml")
NAMES = ("Makefile", "Dockerfile")
EXEMPT = ("tests/unit/tree/words.py", "tests/unit/tree/test_words.py")

INSTEAD = {
    r"told|tell|tells|telling": "message, notify, report, record",
    r"mend|mends|mended|mending": "fix, repair",
    r"anew": "again, from the start; recreated",
    r"whoever|whosoever|whomever": "the client, the caller, the operator",
    r"somebody|anybody": "a client, another process, a user",
    r"of ours": "name the component",
    r"in hand": "in flight, held, buffered",
    r"goes on|go on|went on|going on": "continues, resumes",
    r"let go of|lets go of|letting go of": "released, revoked, dropped",
    r"stands in|stand in|stood in": "is stored in, is in",
    r"stands by|stood by": "is a standby",
    r"for ever": "forever, without end",
    r"nothing but": "only",
    r"(?:can|could|cannot|may|to) be had": "is available",
    r"any more": "no longer",
    r"such a one|such as it is": "name the thing",
    r"ailing|ails|ail": "failed, unhealthy",
    r"the world": "the observed state, the cluster",
    r"farewell|goodbye|obituary|last words": "shutdown, deregistration, exit report",
    r"doubt|doubts|doubted|in doubt": "unconfirmed",
    r"heed|heeds|heeded|amiss|lest|hitherto|thereby|wherein": "plain English",
    r"doorkeeper|doors": "handler, authenticator, endpoint",
    r"mistake of|by a mistake": "internal error",
    r"bury|buries|buried|parking": "dead-letter, write to the dead letter topic",
    r"rouse|rouses|roused": "resume, wake up",
    r"ceased|ceases": "stopped",
}
PERSISTED = ("ParkingRefused", "parking_refused", "parking_resumed")
"""Names that users and stored data depend on, and that therefore stay."""
_PATTERNS = [
    (re.compile(rf"\b(?:{words})\b", re.IGNORECASE), instead) for words, instead in INSTEAD.items()
]
_WORD_IN_NAME = re.compile(r"_|(?<=[a-z0-9])(?=[A-Z])")


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, words, what to write instead) of each place in `text`; parts of identifiers count."""
    for number, line in enumerate(text.splitlines(), 1):
        for name in PERSISTED:
            line = line.replace(name, "")
        spaced = _WORD_IN_NAME.sub(" ", line)
        for pattern, instead in _PATTERNS:
            for match in pattern.finditer(spaced):
                yield number, match.group(), instead


def checked_files(paths: list[str]) -> Iterator[Path]:
    """The files of the project under `paths`, or all of them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    for name in subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        path = ROOT / name
        if (
            name not in EXEMPT
            and path.is_file()
            and (path.suffix in SUFFIXES or path.name in NAMES)
        ):
            yield path


def main(paths: list[str]) -> int:
    """Print the places and return 1 if there are any."""
    count = 0
    for path in checked_files(paths):
        for number, words, instead in found(path.read_text(encoding="utf-8")):
            count += 1
            print(
                f'{path.relative_to(ROOT)}:{number}: "{words}" is not used here; write: {instead}'
            )
    print(f"{count} places" if count else "words: none of the list is used")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
