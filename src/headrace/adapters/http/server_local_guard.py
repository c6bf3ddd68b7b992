"""Protects a server on a loopback address from web pages: from DNS rebinding and cross-site
requests.
"""

from collections.abc import Container, Sequence
from typing import Final

from headrace.adapters.http.server_head import RequestHead, RequestRejected
from headrace.codec.local_request import HOST_BYTES_MAX, host_is_local, refusal
from headrace.domain.bounded_cache import ByteBoundedCache

_HOSTS_BYTES_MAX: Final = 65_536


class LocalGuard:
    """Checks `Host`, `Origin` and `Sec-Fetch-Site` of requests (`headrace.codec.local_request`)."""

    def __init__(self, names: Container[str], *, setting: str, judge_host: bool = True) -> None:
        """Allow `names` in addition to loopback addresses; `setting` is where operators add names.

        Without `judge_host`, only the header fields set by browsers are checked, because the
        request handler checks Host.
        """
        self.local_hosts: ByteBoundedCache[bytes, None] = ByteBoundedCache(
            bytes_max=_HOSTS_BYTES_MAX, entry_bytes_max=HOST_BYTES_MAX
        )
        """Accepted Host fields, not checked again in requests without browser header fields."""
        self._names = names
        self._setting = setting
        self._judge_host = judge_host

    def trusts(self, head: RequestHead) -> bool:
        """Return whether a request with this head need not be checked."""
        return not head.framing[3] and head.host in self.local_hosts

    def check(self, host: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Check a request. Raises `RequestRejected` (403)."""
        origin = site = None
        for name, value in headers:
            if name == b"origin":
                origin = value.decode("latin-1") if origin is None else "several"
            elif name == b"sec-fetch-site":
                site = value.decode("latin-1") if site is None else "cross-site"
        text = host.decode("latin-1")
        reason = refusal(text if self._judge_host else "", origin, site, self._names)
        if reason is not None:
            raise RequestRejected(403, f"{reason}; {self._setting} allows a name")
        if not self._judge_host or not text or host_is_local(text):
            self.local_hosts.remember(host, None, len(host))


def is_local_bind(host: str) -> bool:
    """Whether a server that listens on this address or name is reachable from this host only."""
    return host_is_local(f"[{host}]" if ":" in host else host)


def names_of(setting: str) -> frozenset[str]:
    """Return the host names in a comma-separated setting, in lower case."""
    return frozenset(
        name.strip().lower().removesuffix(".") for name in setting.split(",") if name.strip()
    )
