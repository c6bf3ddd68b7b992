"""Positions: what a list says has changed, and the cursor that keeps them."""

from hashlib import sha256
from typing import Any

import pytest

from headrace_sources.adapters.kubernetes.events import Verb
from headrace_sources.adapters.kubernetes.position import (
    CURSOR_MAX,
    NAMES_MAX,
    KnownObject,
    Position,
    decode,
    encode,
    is_earlier,
    is_later,
    last_state,
)

SERVER = "https://127.0.0.1:6443"
UID = "0a1b2c3d-0000-4000-8000-000000000000"
OTHER = "99999999-0000-4000-8000-000000000000"


def found(version: str, *, uid: str = UID, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    """An object of a list."""
    metadata = {"namespace": "shop", "name": "a", "uid": uid, "resourceVersion": version}
    return {"metadata": {**metadata, "creationTimestamp": created}}


@pytest.mark.parametrize(
    ("known", "listed", "verbs"),
    [
        (None, found("7"), (Verb.ADD,)),
        (KnownObject(UID, "7"), found("7"), ()),
        (KnownObject(UID, "7"), found("6"), (Verb.UPDATE,)),
        (KnownObject(UID, "7"), found("12", uid=OTHER), (Verb.DELETE, Verb.ADD)),
        # After a restart there is no version, and only the beginning of the uid.
        (KnownObject(UID[:8]), found("10"), ()),
        (KnownObject(UID[:8]), found("11"), (Verb.UPDATE,)),
        (KnownObject(UID[:8]), found("9", uid=OTHER), (Verb.DELETE, Verb.ADD)),
    ],
)
def test_changes_since_a_position(
    known: KnownObject | None, listed: dict[str, Any], verbs: tuple[Verb, ...]
) -> None:
    """By the version of the object, or of the position where that is not known."""
    position = Position("10", {"shop/a": known} if known else {})
    assert position.changes(listed) == verbs


def test_changes_without_names() -> None:
    """The version says whether it has changed, and its age whether it is new."""
    position = Position("10", {}, complete=False, at=1_767_225_600.0)  # 2026-01-01T00:00:00Z
    assert position.changes(found("10")) == ()
    assert position.changes(found("11")) == (Verb.ADD,)
    assert position.changes(found("11", created="2025-12-31T23:59:58Z")) == (Verb.UPDATE,)
    assert position.changes(found("11", created="unknown")) == (Verb.UPDATE,)


def test_versions_that_are_no_numbers() -> None:
    """Nothing is left out because of them."""
    assert is_later("9", "10") is False
    assert is_later("abc", "10") is True
    assert is_earlier("9", "10") is True
    assert is_earlier("abc", "10") is False


def test_a_cursor_keeps_positions_and_names() -> None:
    """Versions of single objects are not kept."""
    positions = {
        "v1 configmaps shop ": Position("10", {"shop/a": KnownObject(UID, "7")}),
        "v1 nodes  ": Position("11"),
        "v1 events shop ": Position(),
    }
    text = encode(SERVER, positions, 5.0)
    assert decode(text, SERVER) == {
        "v1 configmaps shop ": Position("10", {"shop/a": KnownObject(UID[:8])}, at=5.0),
        "v1 nodes  ": Position("11", at=5.0),
    }


def test_a_cursor_has_a_limit() -> None:
    """Names are left out of the largest first; the positions are always there."""

    def names(count: int) -> dict[str, KnownObject]:
        # Names and uids that cannot be compressed.
        texts = [sha256(b"%d" % each).hexdigest() for each in range(count)]
        return {f"shop/{each[:16]}": KnownObject(each[16:32], "1") for each in texts}

    positions = {
        "small": Position("1", names(10)),
        "large": Position("2", names(4_500)),
        "too many": Position("3", names(NAMES_MAX + 1)),
    }
    text = encode(SERVER, positions, 5.0)
    assert len(text) <= CURSOR_MAX
    read = decode(text, SERVER)
    assert {key: (each.version, each.complete) for key, each in read.items()} == {
        "small": ("1", True),
        "large": ("2", False),
        "too many": ("3", False),
    }
    assert len(read["small"].objects) == 10


@pytest.mark.parametrize("text", [None, "", "e30=", "nonsense", "eJyrVspNzMlRslIqLlGqBQAkWgTX"])
def test_a_cursor_that_cannot_be_read_is_none(text: str | None) -> None:
    """Nor one of another API server, which has other versions."""
    assert decode(text, SERVER) == {}
    other = encode("https://10.0.0.1", {"v1 nodes  ": Position("11")}, 5.0)
    assert decode(other, SERVER) == {}


def test_the_last_state_of_an_object() -> None:
    """Its name, and what else is known."""
    assert last_state("/node", KnownObject(UID[:8])) == {"metadata": {"name": "node"}}
    metadata = {"namespace": "shop", "name": "a", "uid": UID, "resourceVersion": "7"}
    assert last_state("shop/a", KnownObject(UID, "7")) == {"metadata": metadata}
