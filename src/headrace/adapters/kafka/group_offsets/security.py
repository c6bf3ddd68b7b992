"""The TLS and SASL settings of a connection, from those of librdkafka that all clients of a process
have (`ClientCredentials`).
"""

import asyncio
import math
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from headrace.adapters.kafka.group_offsets.access_token import AccessTokens
from headrace.domain.errors import Permanent
from headrace.runtime.certificates import load_authorities, load_pair

_PREFIXES: Final = ("security.", "ssl.", "sasl.", "https.", "enable.ssl.", "enable.sasl.")
_SUPPORTED: Final = frozenset(
    {
        "security.protocol",
        "ssl.ca.pem",
        "ssl.certificate.pem",
        "ssl.key.pem",
        "ssl.key.password",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.oauthbearer.scope",
        "https.ca.location",
    }
)


class ConnectionSecurity:
    """The security of connections with the same credentials."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Raises Permanent for a setting without a counterpart here: a connection without it might
        be less secure.
        """
        unknown = sorted(
            each for each in settings.keys() - _SUPPORTED if each.startswith(_PREFIXES)
        )
        if unknown:
            raise Permanent(f"connections for committed offsets do not support {unknown[0]}")
        self._settings = settings
        protocol = settings.get("security.protocol", "PLAINTEXT")
        self._protocol = protocol
        self._mechanism = settings.get("sasl.mechanism") if protocol.startswith("SASL") else None
        self._tokens = AccessTokens(settings) if self._mechanism == "OAUTHBEARER" else None

    @property
    def expires_at(self) -> float:
        """When a connection that was authenticated last ends, in monotonic seconds."""
        return math.inf if self._tokens is None else self._tokens.fresh_until

    async def settings(self, server_name: str) -> dict[str, Any]:
        """Return arguments of aiokafka's connection to a broker, whose certificate must have the
        name `server_name`.
        """
        found: dict[str, Any] = {"security_protocol": self._protocol}
        if self._protocol.endswith("SSL"):
            # On a thread, because the system's authorities are a hundred files or more.
            found["ssl_context"] = await asyncio.to_thread(self._tls, server_name)
        if self._mechanism is not None:
            found["sasl_mechanism"] = self._mechanism
        if self._tokens is not None:
            found["sasl_oauth_token_provider"] = self._tokens
        elif self._mechanism is not None:
            found["sasl_plain_username"] = self._settings["sasl.username"]
            found["sasl_plain_password"] = self._settings["sasl.password"]
        return found

    def _tls(self, server_name: str) -> ssl.SSLContext:
        context = _NamedContext(server_name)
        authorities = self._settings.get("ssl.ca.pem")
        try:
            if authorities is None:
                context.load_default_certs()
            else:
                with _file(authorities) as path:
                    load_authorities(context, path)
            certificate, key = (self._settings.get(f"ssl.{each}.pem") for each in _PAIR)
            if certificate is not None and key is not None:
                with _file(certificate) as chain, _file(key) as private:
                    load_pair(context, chain, private, self._settings.get("ssl.key.password"))
        except ValueError as error:
            raise Permanent(f"the TLS settings for Kafka cannot be used: {error}") from error
        return context


_PAIR: Final = "certificate", "key"


class _NamedContext(ssl.SSLContext):
    """Verifies the certificate of one server, by its name, on connections that are made to one of
    its addresses.
    """

    _name: str

    def __new__(cls, name: str) -> "_NamedContext":
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context._name = name
        return context

    def __init__(self, name: str) -> None:
        """All is set in `__new__`, as in the class of the standard library."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Called by the event loop, with the address as `server_hostname`."""
        return super().wrap_bio(incoming, outgoing, server_side, self._name, session)


@contextmanager
def _file(content: str) -> Iterator[Path]:
    """A file in memory: OpenSSL loads certificates and keys from files only, and the file system
    may be read-only.
    """
    descriptor = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content.encode())
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
