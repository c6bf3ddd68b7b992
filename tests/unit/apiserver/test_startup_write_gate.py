"""The deadline of a write: the time in the startup gate and the time of the store together."""

import asyncio
import time

import pytest

from headrace.adapters.memory.store import MemoryResourceStore
from headrace_apiserver.startup_write_gate import (
    WRITE_DEADLINE_SECONDS,
    StartupWriteGate,
    write_deadline,
)
from headrace_apiserver.statuses import StatusError
from tests.unit.apiserver.running_api import running_api

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", MAPS), ("PUT", f"{MAPS}/m"), ("DELETE", f"{MAPS}/m")]
)
def test_a_held_write_has_the_rest_of_its_deadline(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """Held for long, and then the store does not respond: 504 within ten seconds, with a message
    that says what is known.
    """

    async def held(_: StartupWriteGate) -> float:
        return WRITE_DEADLINE_SECONDS - 0.2

    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    with running_api() as api:
        assert 201 == api.call("POST", MAPS, {"metadata": {"name": "m"}})[0]
        monkeypatch.setattr(StartupWriteGate, "wait", held)
        for name in ("create", "replace", "delete"):
            monkeypatch.setattr(MemoryResourceStore, name, never)
        start = time.monotonic()
        name = "new" if method == "POST" else "m"
        answer = api.request(
            method, path, {"metadata": {"name": name}} if method != "DELETE" else None
        )
        assert time.monotonic() - start < 5
        assert (504, True) == (answer.status, b"read before you write again" in answer.data)
        assert (
            "retry-after" not in answer.headers
        )  # clients would send the write again without reading first


async def test_other_timeouts_are_not_converted() -> None:
    """Only its own timeout becomes a Status."""
    with pytest.raises(TimeoutError):
        async with write_deadline(0.0):
            raise TimeoutError
    with pytest.raises(StatusError):
        async with write_deadline(1.0, seconds=1.0):
            await asyncio.sleep(5)
