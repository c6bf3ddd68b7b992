"""Requests of GitHub that have failed: which ones GitHub sends again, and when.

GitHub sends each request once. It keeps it for three days, in which its API sends it again, with
the same id. A request that fails again is tried at growing intervals, up to an hour.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from headrace.domain.backoff import Backoff
from headrace.domain.ports import Clock
from headrace_sources.adapters.github_api import Delivery, GitHubHooks
from headrace_sources.adapters.github_faults import GitHubFault

KEPT_SECONDS: Final = 3 * 86_400.0
AT_ONCE_MAX: Final = 20
"""Requests that GitHub sends again in one round."""
INTERVALS: Final = Backoff((60.0, 120.0, 300.0, 900.0, 1_800.0, 3_600.0))
SETTLED_SECONDS: Final = 30.0
"""A request younger than this may still be under way, and is looked at in the next round."""


def failed(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Return the deliveries of events that no delivery has succeeded for: the newest of each event,
    the oldest event first.
    """
    newest: dict[str, Delivery] = {}
    first: dict[str, float] = {}
    succeeded = set()
    for each in deliveries:
        if each.succeeded:
            succeeded.add(each.guid)
        known = newest.get(each.guid)
        if known is None or each.delivered_at > known.delivered_at:
            newest[each.guid] = each
        first[each.guid] = min(first.get(each.guid, each.delivered_at), each.delivered_at)
    return sorted(
        (each for guid, each in newest.items() if guid not in succeeded),
        key=lambda each: first[each.guid],
    )


@dataclass(slots=True)
class Redelivery:
    """Lets GitHub send again what has failed."""

    hooks: GitHubHooks
    clock: Clock
    _asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By the id of the event: how often GitHub was asked, and when it may be asked again."""
    _unsupported: bool = False

    async def run(self, hook: int) -> int:
        """Look once. Return how many requests are sent again. Raises `GitHubFault`."""
        if self._unsupported:
            return 0
        now = self.clock.now()
        try:
            found = failed(await self.hooks.deliveries(hook, now - KEPT_SECONDS))
        except GitHubFault as fault:
            # A GitHub Enterprise Server before 3.2 has no such API, and a token may lack the right.
            if fault.wait > 0 or fault.status not in (403, 404):
                raise
            if await self.hooks.get(str(hook)) is None:
                raise
            self._unsupported = True
            return 0
        self._asked = {each.guid: self._asked.get(each.guid, (0, now)) for each in found}
        due = [
            each
            for each in found
            if self._asked[each.guid][1] <= now and each.delivered_at <= now - SETTLED_SECONDS
        ][:AT_ONCE_MAX]
        for each in due:
            times, _ = self._asked[each.guid]
            self._asked[each.guid] = (times + 1, now + INTERVALS.seconds(times + 1))
            await self.hooks.redeliver(hook, each.id)
        return len(due)
