"""The number of replicas of a stream that exists."""

import pytest

from headrace.adapters.nats.replicas import replicated_config


@pytest.mark.parametrize(
    ("cluster", "has", "asked", "expected"),
    [
        ({"name": "c", "leader": "n0"}, 1, 3, 3),
        ({"name": "c", "leader": "n0"}, 3, 3, None),
        ({"name": "c", "leader": "n0"}, 5, 3, None),
        # nats-server 2.9 takes any number for a stream of a single server, and replicates nothing.
        ({"leader": "n0"}, 1, 3, None),
        (None, 1, 3, None),
    ],
)
def test_replicas_are_added_in_a_cluster(
    cluster: dict[str, str] | None, has: int, asked: int, expected: int | None
) -> None:
    """Nothing else changes."""
    config = {"name": "orders", "storage": "file", "num_replicas": has}
    answer = {"config": config, "cluster": cluster}
    wanted = {**config, "num_replicas": expected} if expected else None
    assert wanted == replicated_config(answer, asked)
