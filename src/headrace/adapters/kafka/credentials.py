"""The TLS and SASL settings of the Kafka clients of a process, and which clients have to be
replaced after the settings were renewed.

A client reads its settings when it is created, and uses them for each connection that it opens
(librdkafka has no call that renews them). So its owner replaces a client that is older than the
settings (decision 0027). Open connections stay valid, so there is no hurry: the clients of a
process are replaced one after the other.
"""

import os
import socket
import time
import weakref
import zlib
from collections.abc import Mapping

SPREAD_SECONDS = 30.0
"""The time within which the clients of one process are replaced."""


class ClientCredentials:
    """The current settings. Can be used from any thread."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        spread_seconds: float = SPREAD_SECONDS,
    ) -> None:
        """`settings` are those of librdkafka: `security.protocol`, `sasl.*`, `ssl.*`. They are
        never displayed.
        """
        self.settings: Mapping[str, str] = dict(settings or {})
        self.version = 0
        self.renewed_at = 0.0
        """When they were renewed (monotonic seconds)."""
        self.spread_seconds = spread_seconds
        self._clients: weakref.WeakSet[ClientAge] = weakref.WeakSet()

    @property
    def clients(self) -> int:
        """The number of clients that use them, or older ones."""
        return len(self._clients)

    def renew(self, settings: Mapping[str, str]) -> int:
        """Use these from now on. Returns the number of clients that have to be replaced."""
        self.settings = dict(settings)
        self.renewed_at = time.monotonic()
        self.version += 1
        return self.clients

    def age(self, client: str) -> "ClientAge":
        """Return the age of a client that is created after this call. `client` is a name within
        the process.
        """
        age = ClientAge(self, client)
        self._clients.add(age)
        return age


class ClientAge:
    """Whether one client is older than the settings. Its owner drops this with the client."""

    __slots__ = ("__weakref__", "_credentials", "_delay", "_version")

    def __init__(self, credentials: ClientCredentials, client: str) -> None:
        self._credentials = credentials
        self._version = credentials.version
        # The same for a client each time. Members of one group in several processes are not
        # replaced together.
        place = f"{client} {socket.gethostname()} {os.getpid()}"
        self._delay = zlib.crc32(place.encode()) / 2**32

    @property
    def outdated(self) -> bool:
        """Whether the settings were renewed since."""
        return self._version != self._credentials.version

    @property
    def due(self) -> bool:
        """Whether they were, and it is the turn of this client to be replaced."""
        credentials = self._credentials
        return self._version != credentials.version and (
            time.monotonic() >= credentials.renewed_at + self._delay * credentials.spread_seconds
        )
