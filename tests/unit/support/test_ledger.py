"""Events are functions of seed, writer and counter, and the ledger stores what is known
about them.
"""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.ledger import (
    Arrival,
    Ledger,
    Outcome,
    damage,
    headers_of,
    numbered,
    read_arrivals,
    write_arrivals,
)


def _received(seed: int, writer: str, counter: int) -> tuple[dict[str, str], bytes]:
    event = numbered(seed, writer, counter)
    lines = headers_of(event).decode().split("\r\n")[:-1]
    return {
        name[3:]: value
        for name, _, value in (line.partition(": ") for line in lines)
        if name.startswith("ce-")
    }, event.data


def test_received_event_is_verified_alone() -> None:
    """Headers as written and data as created are intact, also with another percent-encoding."""
    attributes, data = _received(7, "w01", 12)
    assert damage(7, attributes, data) is None
    attributes["oddity"] = quote(numbered(7, "w01", 12).attributes["oddity"], safe="")
    assert damage(7, {**attributes, "knativearrivaltime": "2026-01-01T00:00:00Z"}, data) is None


@pytest.mark.parametrize(
    ("change", "data", "said"),
    [
        ({"type": "ledger.c"}, None, "attribute type differs"),
        ({"oddity": "%FF"}, None, "attribute oddity is not UTF-8"),
        ({"oddity": "plain"}, None, "attribute oddity differs"),
        ({"headraceattempt": "1"}, None, "attributes added: headraceattempt"),
        ({"id": "w01.13"}, None, "data differs"),
        ({"id": "other"}, None, "its id is not of this run"),
        ({}, b"", "data differs: 0 bytes came"),
    ],
)
def test_damage_is_named(change: dict[str, str], data: bytes | None, said: str) -> None:
    """Any change on the way is described."""
    attributes, sent = _received(7, "w01", 12)
    found = damage(7, {**attributes, **change}, sent if data is None else data)
    assert found is not None
    assert found.startswith(said)


def test_every_bit_counts() -> None:
    """One flipped bit of data is damage."""
    attributes, data = _received(7, "w01", 12)
    flipped = bytes([data[0] ^ 1]) + data[1:]
    assert damage(7, attributes, flipped) is not None
    assert damage(8, attributes, data) is not None


def test_acknowledgement_is_never_withdrawn(tmp_path: Path) -> None:
    """An event posted twice and acknowledged once stays acknowledged, and the file has
    every step.
    """
    ledger = Ledger(tmp_path / "ledger.jsonl")
    event = numbered(1, "w", 0)
    for at, outcome in ((1.0, Outcome.INFO), (2.0, Outcome.OK), (3.0, Outcome.INFO)):
        ledger.sent(event, at)
        ledger.settled(event, outcome, at + 0.5, status=202 if outcome is Outcome.OK else None)
    ledger.close()
    (entry,) = ledger.entries()
    assert (entry.outcome, entry.posts, entry.settled_at) == (Outcome.OK, 3, 2.5)
    steps = [
        json.loads(line)["op"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines()
    ]
    assert steps == ["send", "info", "send", "ok", "send", "info"]


def test_arrivals_survive_a_truncated_line() -> None:
    """A file whose last line was cut off by a kill gives all complete lines."""
    arrivals = [
        Arrival("s", "w.0", "w", 1.0, 2.0, 202),
        Arrival("s", "w.1", "w", 2.0, 3.0, None, "data differs"),
    ]
    assert read_arrivals(write_arrivals(arrivals)) == arrivals
    assert read_arrivals(write_arrivals(arrivals)[:-5]) == arrivals[:1]
