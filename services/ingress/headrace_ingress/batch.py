"""A request with several events: either all of them are acknowledged, or none."""

from collections.abc import Callable, Sequence

from headrace.adapters.http.server import Exchange
from headrace.domain.errors import HeadraceError
from headrace.domain.record import Record
from headrace_ingress.route_cache import RouteEntry


class Batch:
    """A batch that is being stored."""

    __slots__ = ("_on_finished", "_pending", "error", "exchange", "records", "route", "started")

    def __init__(
        self,
        exchange: Exchange,
        route: RouteEntry,
        started: float,
        records: Sequence[Record],
        *,
        on_finished: Callable[["Batch"], None],
    ) -> None:
        """`started` is the monotonic time of the request, in seconds. `on_finished` is called once,
        when every event was stored or refused.
        """
        self.exchange = exchange
        self.route = route
        self.started = started
        self.records = records
        self.error: HeadraceError | None = None
        """The first error; None if all events were stored."""
        self._on_finished = on_finished
        self._pending = len(records)

    def stored(self, error: HeadraceError | None) -> None:
        """Record that one more event was stored or refused."""
        self._finish(1, error)

    def abort(self, count: int, error: HeadraceError) -> None:
        """Record that the last `count` events were not appended."""
        self._finish(count, error)

    def _finish(self, count: int, error: HeadraceError | None) -> None:
        self.error = self.error or error
        self._pending -= count
        if not self._pending:
            self._on_finished(self)
