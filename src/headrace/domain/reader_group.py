"""The consumer group of the processes that read a channel topic for all its subscriptions."""

from typing import Final

READER_GROUP_PREFIX: Final = "knative-reader."


def reader_group(topic: str) -> str:
    """Return the group whose members are the readers of this topic. It assigns partitions only: the
    offsets of a subscription are in the subscription's own group.
    """
    return READER_GROUP_PREFIX + topic
