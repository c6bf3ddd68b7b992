"""An informer whose API server does not answer, or does not serve the kind."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from structlog.testing import capture_logs

from headrace.adapters.kubernetes.client import KubernetesClient, WatchEvent
from headrace.adapters.kubernetes.informer import Informer
from headrace.domain.errors import NotFound, Temporary
from headrace.resources.control_ports import KIND_NOT_SERVED
from headrace.resources.kinds import BROKER
from headrace.resources.resource import Resource, ResourceKey, ResourceKind


class _Unreachable(KubernetesClient):
    """Fails every list."""

    def __init__(self) -> None:
        """Connects to nothing."""

    async def list(
        self, kind: ResourceKind, namespace: str | None
    ) -> tuple[Sequence[Resource], str]:
        """Fail."""
        raise Temporary(f"{kind.qualified} in {namespace}: no answer")


class _Removed(KubernetesClient):
    """Lists one object, then the kind is gone: its watch ends, and it cannot be listed."""

    def __init__(self) -> None:
        """Connects to nothing."""
        self.lists = 0
        self.asked_again = asyncio.Event()

    async def list(
        self, kind: ResourceKind, namespace: str | None
    ) -> tuple[Sequence[Resource], str]:
        """One object, the first time."""
        self.lists += 1
        if self.lists == 1:
            return [Resource(kind, {"metadata": {"name": "a", "namespace": "shop"}})], "1"
        if self.lists > 2:
            self.asked_again.set()
        raise NotFound("the server could not find the requested resource")

    async def watch(
        self, kind: ResourceKind, namespace: str | None, version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """End at once."""
        if self.lists == 0:
            yield WatchEvent(Resource(kind, {}), deleted=False)


@pytest.mark.parametrize("optional", [True, False])
async def test_a_kind_that_is_gone_has_no_objects_if_it_is_optional(*, optional: bool) -> None:
    """Those that were known are gone with it. Of a kind that must be there nothing is concluded."""
    client = _Removed()
    seen: list[tuple[str, bool]] = []

    def changed(key: ResourceKey, resource: Resource | None, _version: str) -> None:
        seen.append((key.name, resource is not None))

    informer = Informer(client, BROKER, None, changed, optional=optional)
    informer.start()
    await asyncio.wait_for(client.asked_again.wait(), 5.0)
    assert seen == ([("a", True), ("a", False)] if optional else [("a", True)])
    assert (informer.last_error == KIND_NOT_SERVED) == optional
    await informer.stop()


async def test_the_pauses_start_with_the_shortest_and_only_the_first_failure_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each pause is spread by a fifth of itself."""
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    informer = Informer(_Unreachable(), BROKER, None, lambda *_: None)
    with capture_logs() as logs:
        informer.start()
        await asyncio.wait_for(enough.wait(), 5.0)
        await informer.stop()
    assert pauses == pytest.approx([0.2, 0.5, 1.0, 2.0], rel=0.21)
    assert [each["event"] for each in logs] == ["list_watch_failed"]
