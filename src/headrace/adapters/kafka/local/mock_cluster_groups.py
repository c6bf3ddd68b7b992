"""Names of consumer groups in the embedded Kafka, which differ from the names in the rest of the
system.

The mock cluster differs from Kafka in two ways. When a member joins or leaves a running group, the
others wait for almost a session timeout. And a group that has had members accepts offsets only from
members, even after they have left. Therefore each topic of a group is read with a separate group
name, by one member, and a group that was deleted gets another name.
"""

from collections import Counter
from collections.abc import Collection


class MockClusterGroups:
    """Names of groups in the cluster, shared by everything that reads or commits there."""

    def __init__(self) -> None:
        self._deleted: Counter[str] = Counter()

    def name(self, group: str, topic: str) -> str:
        """Return the name of `group` for reading `topic`."""
        times = self._deleted.get(group, 0)
        return f"{group}/{topic}" + (f"/{times + 1}" if times else "")

    def delete(self, groups: Collection[str]) -> None:
        """Delete these groups: a group that is created later with the same name has no offsets."""
        self._deleted.update(set(groups))
