"""The consumer group of the processes that read a channel topic for all its subscriptions, and what
is assigned with its partitions.
"""

import zlib
from typing import Final

READER_GROUP_PREFIX: Final = "knative-reader."


def reader_group(topic: str) -> str:
    """Return the group whose members are the readers of this topic. It assigns partitions only: the
    offsets of a subscription are in the subscription's own group.
    """
    return READER_GROUP_PREFIX + topic


def assigned_with(topic: str, number: int, channel_partitions: int) -> int:
    """Return the partition of a channel topic whose owner also reads partition `number` of `topic`,
    the retry or dead letter topic of a subscription. Different topics are spread over the owners.
    """
    return (zlib.crc32(topic.encode()) + number) % channel_partitions
