"""What the Kafka clients of a service measure: errors that they report, and how long records take
to be stored.

One `ClientMeasurements` is part of the options that all clients of a service are created with.
Consumers run in threads of their own, so it is locked; errors are rare.
"""

import threading
from collections.abc import Callable, Mapping


def _ignore(seconds: float) -> None:
    pass


class ClientMeasurements:
    """The measurements of the clients that share it."""

    def __init__(self) -> None:
        self.observe_produce: Callable[[float], None] = _ignore
        """Called on the event loop with the seconds from `append` to the delivery report, for one
        record at a time: while a record is timed, others are not.
        """
        self._errors: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def count_error(self, client: str, error: str) -> None:
        """Count an error; `client` is the kind of client, `error` the name that the client library
        gives it. Both are closed sets.
        """
        with self._lock:
            self._errors[client, error] = self._errors.get((client, error), 0) + 1

    def errors(self) -> Mapping[tuple[str, str], int]:
        """Return the errors so far, by client and name."""
        with self._lock:
            return dict(self._errors)
