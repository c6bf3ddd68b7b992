"""The Kafka of a source: how to connect to it, and what is wrong if that fails."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from headrace.adapters.kafka.consumer.initial_offsets import commit_initial_offsets, find_topics
from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import (
    Conflict,
    HeadraceError,
    LogUnavailable,
    TopicMissing,
    WriteRefused,
)
from headrace.domain.feed import InitialOffset
from headrace_sources.source import SecretKeyRef, SourceConfig, SourceContext, SourceFault

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
REQUEST_SECONDS: Final = 4.0
GROUP_SECONDS: Final = 10.0
"""How long the other processes may take to leave the group when the source has changed."""
_GRACE_SECONDS: Final = 6.0
_THREADS: Final = ThreadPoolExecutor(8, thread_name_prefix="kafka source")
"""For requests that block: bounded, shared by all sources of the process."""
_CONNECTION: Final = "ConnectionEstablished"
_OFFSETS: Final = "InitialOffsetsCommitted"

T = TypeVar("T")


class Sasl(SourceConfig):
    """Login: `spec.net.sasl`."""

    user: SecretKeyRef
    password: SecretKeyRef
    type: SecretKeyRef | None = None


class Tls(SourceConfig):
    """Encryption: `spec.net.tls`. Without `ca_cert`, the authorities of the system are trusted."""

    cert: SecretKeyRef | None = None
    key: SecretKeyRef | None = None
    ca_cert: SecretKeyRef | None = None


class Cluster:
    """The Kafka of one source."""

    def __init__(
        self,
        bootstrap_servers: Sequence[str],
        sasl: Sasl | None,
        tls: Tls | None,
        context: SourceContext,
    ) -> None:
        self._servers = tuple(bootstrap_servers)
        self._sasl, self._tls = sasl, tls
        self._context = context

    async def options(self) -> KafkaOptions:
        """Return the options of the clients. Reads the Secrets; raises `SourceFault`."""
        await self._check_addresses()
        protocol = ("SASL_" if self._sasl else "") + ("SSL" if self._tls else "PLAINTEXT")
        security = {"security.protocol": protocol}
        if self._sasl is not None:
            security |= await self._sasl_settings(self._sasl)
        if self._tls is not None:
            pems = {
                "ssl.ca.pem": self._tls.ca_cert,
                "ssl.certificate.pem": self._tls.cert,
                "ssl.key.pem": self._tls.key,
            }
            for name, reference in pems.items():
                if reference is not None:
                    security[name] = await self._text(reference)
        return KafkaOptions(
            bootstrap_servers=",".join(self._servers),
            client_id=f"headrace-{self._context.namespace}-{self._context.name}"[:249],
            # A source begins again, with new clients, when one of its Secrets changes.
            credentials=ClientCredentials(security),
        )

    async def _sasl_settings(self, sasl: Sasl) -> Mapping[str, str]:
        mechanism = (await self._text(sasl.type)).strip() if sasl.type is not None else "PLAIN"
        if mechanism not in MECHANISMS:
            raise SourceFault(
                "UnsupportedMechanism",
                f"the Secret of spec.net.sasl.type has {mechanism[:40]!r}; use one of"
                f" {', '.join(MECHANISMS)}",
                condition=_CONNECTION,
            )
        return {
            "sasl.mechanism": mechanism,
            "sasl.username": (await self._text(sasl.user)).strip("\r\n"),
            "sasl.password": (await self._text(sasl.password)).strip("\r\n"),
        }

    async def _text(self, reference: SecretKeyRef) -> str:
        try:
            return (await self._context.secret(reference)).decode()
        except UnicodeDecodeError:
            raise SourceFault(
                "InvalidSecret",
                f"key {reference.key} of Secret {reference.name} is not text in UTF-8",
                condition=_CONNECTION,
            ) from None

    async def _check_addresses(self) -> None:
        """Raise `SourceFault` for a bootstrap server at an address that may not be connected to."""
        loop = asyncio.get_running_loop()
        for server in self._servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal():
                raise SourceFault(
                    "InvalidBootstrapServer",
                    f"{server[:200]!r} in spec.bootstrapServers is not host:port",
                    condition=_CONNECTION,
                )
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    found = await loop.getaddrinfo(
                        host.strip("[]"), int(port), type=socket.SOCK_STREAM
                    )
            except (OSError, TimeoutError):
                continue  # The client reports that it cannot resolve the name.
            for *_, address in found:
                where = ipaddress.ip_address(str(address[0]).partition("%")[0])
                denied = self._context.address_denied(where, int(port))
                if denied:
                    raise SourceFault(
                        "AddressDenied", f"{server[:200]}: {denied}", condition=_CONNECTION
                    )

    async def check(self, options: KafkaOptions, topics: Sequence[str]) -> Mapping[str, int]:
        """Return the number of partitions of each topic; raises `SourceFault` that says why they
        cannot be read.
        """
        return await self._ask(
            lambda: find_topics(options, topics, seconds=REQUEST_SECONDS), _CONNECTION
        )

    async def commit_initial_offsets(
        self, options: KafkaOptions, group: str, topics: Sequence[str], initial: InitialOffset
    ) -> None:
        """Commit where the group begins, so that a process that dies before its first commit loses
        nothing. Raises `SourceFault`.

        A group that has members takes no offsets from outside: they may be those of processes that
        are about to leave, or that have committed them. After a while the members do it.
        """
        until = self._context.clock.monotonic() + GROUP_SECONDS
        while True:
            try:
                await self._ask(
                    lambda: commit_initial_offsets(
                        options, group, topics, initial, seconds=REQUEST_SECONDS
                    ),
                    _OFFSETS,
                )
            except SourceFault as fault:
                if not isinstance(fault.__cause__, Conflict):
                    raise
                if self._context.clock.monotonic() >= until:
                    return
                self._context.report(_OFFSETS, None, "GroupHasMembers", str(fault))
                await asyncio.sleep(0.5)
            else:
                return

    async def _ask(self, request: Callable[[], T], condition: str) -> T:
        work = asyncio.get_running_loop().run_in_executor(_THREADS, request)
        try:
            async with asyncio.timeout(REQUEST_SECONDS + _GRACE_SECONDS):
                return await work
        except TimeoutError:
            raise self._fault(
                LogUnavailable(f"no answer within {REQUEST_SECONDS + _GRACE_SECONDS:g} s"),
                condition,
            ) from None
        except HeadraceError as error:
            raise self._fault(error, condition) from error

    def _fault(self, error: HeadraceError, condition: str) -> SourceFault:
        servers = ", ".join(self._servers)[:200]
        if isinstance(error, TopicMissing):
            return SourceFault(
                "TopicNotFound",
                f"{error} at {servers}; create it, or correct spec.topics",
                condition=condition,
            )
        if isinstance(error, WriteRefused):
            return SourceFault(
                "Refused",
                f"{servers} refused: {error}; check spec.net, its Secrets, and the rights to read"
                " the topics and the group",
                condition=condition,
            )
        if isinstance(error, LogUnavailable):
            return SourceFault(
                "Unreachable",
                f"{servers} did not answer: {error}; check spec.bootstrapServers, spec.net and the"
                " network",
                condition=condition,
            )
        return SourceFault("Failed", f"{servers}: {error}", condition=condition)
