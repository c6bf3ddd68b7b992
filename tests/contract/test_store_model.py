"""Any sequence of operations on a store gives the results of a simple model, for a writing and a
watching client.
"""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.memory.store import MemoryResourceStore
from headrace.runtime.clock import SystemClock
from tests.contract.test_store import THING, MakeStore, make  # noqa: F401 - the stores
from tests.support.store_model import NAMES, VERBS, Follower, Model, Operation, run, sequence
from tests.support.wait_until import wait_until_async

STEPS = 120
OPERATIONS = st.lists(
    st.builds(Operation, st.sampled_from(VERBS), st.sampled_from(NAMES), st.integers(0, 3)),
    max_size=30,
)


@given(OPERATIONS)
def test_any_sequence_in_memory(operations: list[Operation]) -> None:
    """Errors, contents, generations and what a watcher receives are the model's."""

    async def scenario() -> None:
        store, follower = MemoryResourceStore(clock=SystemClock()), Follower()
        await store.start()
        store.watch(follower.hear)
        model = await run(store, THING, operations)
        await asyncio.sleep(0)
        assert model.entries.keys() == follower.known.keys()
        assert follower.versions == sorted(follower.versions, key=int)
        await store.stop()

    asyncio.run(scenario())


async def test_a_long_sequence(make: MakeStore) -> None:  # noqa: F811 - the fixture
    """The same on every store, from a seed that is printed: contents, generations, errors, and what
    a watcher has in the end.
    """
    seed = int(os.environ.get("HEADRACE_TEST_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    print(f"HEADRACE_TEST_SEED={seed}")
    store, follower = await make(), Follower()
    store.watch(follower.hear)
    await wait_until_async(lambda: store.epoch is not None, 15, "the store to write")
    model = await run(store, THING, sequence(seed, STEPS))
    await wait_until_async(
        lambda: _same(model, follower), 10, "the watcher to have heard everything"
    )


def _same(model: Model, follower: Follower) -> bool:
    heard = {name: dict(each.spec) for name, each in follower.known.items()}
    return heard == {name: entry.spec for name, entry in model.entries.items()}


@pytest.mark.parametrize("broken", ["replace", "status", "release"])
def test_the_model_detects_a_broken_store(broken: str) -> None:
    """A store that ignores one verb is detected."""

    class Broken(MemoryResourceStore):
        """Returns as if it had written."""

        async def replace(self, resource):  # type: ignore[no-untyped-def]
            """Does nothing for some objects."""
            known = {
                "replace": "y" not in resource.spec,
                "release": "finalizers" not in resource.metadata,
            }.get(broken, False)
            return (
                self.get(THING, resource.namespace, resource.name)
                if known
                else await super().replace(resource)
            )

        async def replace_status(self, resource):  # type: ignore[no-untyped-def]
            """Does nothing for some objects."""
            if broken == "status":
                return self.get(THING, resource.namespace, resource.name)
            return await super().replace_status(resource)

    async def scenario() -> None:
        store = Broken(clock=SystemClock())
        await store.start()
        await run(store, THING, sequence(7, STEPS))

    with pytest.raises(AssertionError, match="step"):
        asyncio.run(scenario())
