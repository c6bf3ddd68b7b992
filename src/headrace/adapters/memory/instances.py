"""Reports of live instances, within one process."""

from collections.abc import Sequence

from headrace.domain.ports import Clock, Instance

LIVE_SECONDS = 10.0


class MemoryInstances:
    """Implements `headrace.domain.ports.Instances`; share one object between the services."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[float, Instance]] = {}

    async def report(self, instance: Instance) -> None:
        """See the port."""
        self._reports[instance.id] = (self._clock.monotonic(), instance)

    async def deregister(self, instance_id: str) -> None:
        """See the port."""
        self._reports.pop(instance_id, None)

    def live(self) -> Sequence[Instance]:
        """See the port."""
        limit = self._clock.monotonic() - LIVE_SECONDS
        self._reports = {key: value for key, value in self._reports.items() if value[0] >= limit}
        return [instance for _, instance in self._reports.values()]
