"""The number of replicas of a stream that exists. A server that the stream was created on may have
become part of a larger cluster.
"""

from collections.abc import Mapping
from typing import Any


def replicated_config(answer: Mapping[str, Any], replicas: int) -> dict[str, Any] | None:
    """Return a stream's configuration with so many replicas, from the answer about it; None if it
    has them, or its server is alone.
    """
    config: Mapping[str, Any] = answer["config"]
    # A single server has no name of a cluster, and would take any number.
    in_cluster = (answer.get("cluster") or {}).get("name")
    if int(config.get("num_replicas") or 1) >= replicas or not in_cluster:
        return None
    return {**config, "num_replicas": replicas}
