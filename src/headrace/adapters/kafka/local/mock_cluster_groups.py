"""Names of consumer groups in the embedded Kafka, which differ from the names in the rest of the
system.

The mock cluster differs from Kafka in two ways. When a member joins or leaves a running group, the
others wait for almost a session timeout. And a group that has had members accepts offsets from
members only, also when they are gone. So each topic of a group is read under a group name of its
own, by one member, and a group that was deleted gets another name.
"""

from collections import Counter
from collections.abc import Collection


class MockClusterGroups:
    """Names of groups in the cluster, shared by everything that reads or commits there."""

    def __init__(self) -> None:
        self._deleted: Counter[str] = Counter()

    def name(self, group: str, topic: str) -> str:
        """The name of `group` where it reads `topic`."""
        times = self._deleted.get(group, 0)
        return f"{group}/{topic}" + (f"/{times + 1}" if times else "")

    def delete(self, groups: Collection[str]) -> None:
        """Delete these groups: a group created later with such a name has no offsets."""
        self._deleted.update(set(groups))
