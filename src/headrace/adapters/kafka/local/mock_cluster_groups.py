"""What the consumer groups of the embedded Kafka are called, which is not what the rest of the
system calls them.

Its mock cluster has two habits that a real Kafka has not. When a member joins or leaves a group
that is at work, the others wait for almost a session timeout; and a group that has had members
takes offsets from its members only, also when they are gone. So each topic of a group is read under
a name of its own, by one member, and a group that was deleted goes on under another name.
"""

from collections import Counter
from collections.abc import Collection


class MockClusterGroups:
    """Names of groups in the cluster. One value for everything that reads or commits there."""

    def __init__(self) -> None:
        self._deleted: Counter[str] = Counter()

    def name(self, group: str, topic: str) -> str:
        """What `group` is called where it reads `topic`."""
        times = self._deleted.get(group, 0)
        return f"{group}/{topic}" + (f"/{times + 1}" if times else "")

    def delete(self, groups: Collection[str]) -> None:
        """These groups are deleted: one made under such a name later has committed nothing."""
        self._deleted.update(set(groups))
