"""Killed after any step and started again, the controller ends in the same world as one that was
never killed.

The steps of every plan are performed one at a time; after the n-th a new controller, which knows
nothing, takes over what is there. Run for every n there is, over a life that makes, changes and
removes things.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from headrace.resources.kinds import BROKER, TRIGGER
from headrace_controller.reconcile.plan import Step
from tests.unit.controller.harness import ControllerHarness, broker, config_map, trigger

Act = Callable[[ControllerHarness], Awaitable[None]]


class Killed(Exception):
    """The controller ends here."""


async def _create(harness: ControllerHarness) -> None:
    await harness.apply(config_map("mine", {"default.topic.partitions": "2"}))
    await harness.apply(
        broker(spec={"config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"}})
    )
    await harness.apply(
        trigger("one"), trigger("two", spec={"filter": {"attributes": {"type": "x"}}})
    )


async def _change(harness: ControllerHarness) -> None:
    await harness.apply(trigger("one", uri="http://other.example/"))
    await harness.apply(
        broker(
            spec={
                "config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"},
                "delivery": {"retry": 2},
            }
        )
    )
    await harness.delete(TRIGGER, "two")


async def _recreate(harness: ControllerHarness) -> None:
    await harness.apply(trigger("two"))
    await harness.delete(BROKER, "default")


LIFE: Sequence[Act] = (_create, _change, _recreate)


def _cut(harness: ControllerHarness, budget: list[int]) -> None:
    """Have the controller perform plans step by step, and end when the budget of steps is
    used up.
    """
    executor = harness.loop.executor
    whole = executor.execute

    async def execute(steps: Sequence[Step]) -> None:
        for step in steps:
            if budget[0] == 0:
                raise Killed
            budget[0] -= 1
            await whole([step])

    executor.execute = execute  # type: ignore[method-assign]


async def _live(kill_after: int) -> tuple[dict[str, Any], int]:
    """The final state of the installation, and the number of steps."""
    harness = ControllerHarness()
    await harness.restart()
    budget = [kill_after]
    _cut(harness, budget)
    for act in LIFE:
        await act(harness)
        try:
            await harness.settle(80)
        except Killed:
            budget[0] = -1
            await harness.restart()
            await harness.settle(80)
    assert [] == await harness.resync()
    return harness.picture(), kill_after - budget[0]


@pytest.fixture(scope="module")
def calm() -> dict[str, Any]:
    """What comes out undisturbed, and after how many steps."""
    picture, steps = asyncio.run(_live(1_000_000))
    return {"picture": picture, "steps": steps}


async def test_the_life_has_enough_places_to_be_killed_at(calm: dict[str, Any]) -> None:
    """A life of few steps would prove little."""
    assert calm["steps"] > 60
    # What is in no namespace are the provisioners, which the controller creates.
    assert {"", "shop"} == {name.split("/")[1] for name in calm["picture"]["resources"]}


@pytest.mark.parametrize("part", range(4))
async def test_killed_after_any_step_the_same_world_comes_out(
    calm: dict[str, Any], part: int
) -> None:
    """Topics, groups, offsets, routing records, statuses and finalizers are those of the
    undisturbed life.
    """
    for kill_after in range(part, calm["steps"], 4):
        picture, _ = await _live(kill_after)
        assert calm["picture"] == picture, f"killed after {kill_after} steps"
