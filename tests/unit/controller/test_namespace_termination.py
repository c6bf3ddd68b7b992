"""A namespace that is being deleted takes nothing new: that is waited out quietly, and nobody is
sent to look at a role.
"""

import pytest
from structlog.testing import capture_logs

from headrace.domain.errors import Permanent
from headrace.resources.resource import NamespaceTerminating, Resource
from tests.unit.controller.harness import ControllerHarness, broker


@pytest.mark.parametrize(
    ("error", "levels"),
    [
        (NamespaceTerminating("it is being terminated"), {"debug"}),
        (Permanent("the role does not allow it"), {"warning"}),
    ],
)
async def test_what_a_terminating_namespace_refuses_is_not_complained_of(
    error: Permanent, levels: set[str]
) -> None:
    """Other refusals are, and both are tried again later only."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker())

    async def refuse(resource: Resource) -> Resource:
        raise error

    harness.store.replace = refuse  # type: ignore[method-assign]
    with capture_logs() as logs:
        await harness.run_once()
        await harness.run_once()
    refused = [each for each in logs if each["event"] == "step_failed"]
    assert levels == {each["log_level"] for each in refused}
    assert len({each["about"] for each in refused}) == len(refused)
