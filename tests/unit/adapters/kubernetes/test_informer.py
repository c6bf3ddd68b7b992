"""The pauses of an informer whose API server does not answer."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from headrace.adapters.kubernetes.client import KubernetesClient
from headrace.adapters.kubernetes.informer import Informer
from headrace.domain.errors import Temporary
from headrace.resources.kinds import BROKER
from headrace.resources.resource import Resource, ResourceKind


class _Unreachable(KubernetesClient):
    """Fails every list."""

    def __init__(self) -> None:
        """Connects to nothing."""

    async def list(
        self, kind: ResourceKind, namespace: str | None
    ) -> tuple[Sequence[Resource], str]:
        """Fail."""
        raise Temporary(f"{kind.qualified} in {namespace}: no answer")


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
