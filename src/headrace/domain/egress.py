"""Which addresses events may be posted to: allowed and denied networks, and the deployment's own
ports, which are always denied.

The policy applies to the resolved address that the connection then uses, so an alternative spelling
or a second lookup cannot bypass it. The most specific network that contains an address decides.
Between two equal networks, the operator's setting overrides the default, and allow overrides deny.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DENY_SETTING = "HEADRACE_DISPATCHER_EGRESS_DENY"
ALLOW_SETTING = "HEADRACE_DISPATCHER_EGRESS_ALLOW"
NETWORKS_MAX = 256

LOOPBACK = (("127.0.0.0/8", "loopback"), ("::1/128", "loopback"))
DENIED_BY_DEFAULT = (
    ("0.0.0.0/8", "unspecified"),
    ("::/128", "unspecified"),
    ("169.254.0.0/16", "link-local"),
    ("fe80::/10", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("255.255.255.255/32", "broadcast"),
    # Metadata services of cloud providers, where a request may return credentials. Each is a
    # network of its own, so that allowing the link-local network does not allow these too.
    ("169.254.169.254/32", "cloud metadata"),
    ("169.254.170.2/32", "cloud metadata"),
    ("169.254.170.23/32", "cloud metadata"),
    ("fd00:ec2::254/128", "cloud metadata"),
    ("fd00:ec2::23/128", "cloud metadata"),
    ("fd20:ce::254/128", "cloud metadata"),
    ("100.100.100.200/32", "cloud metadata"),
    ("168.63.129.16/32", "cloud metadata"),
    ("192.0.0.192/32", "cloud metadata"),
    # RFC 8215: the position of the IPv4 address in such an address depends on the network.
    ("64:ff9b:1::/48", "local translation to IPv4"),
)

_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


@dataclass(frozen=True, slots=True)
class ProtectedPort:
    """A port that this deployment listens on and that must not receive events."""

    host: str
    """The address it listens on. An unspecified address means every address of this machine."""
    port: int
    purpose: str
    """Used in the message, for example `the controller's API`."""


@dataclass(frozen=True, slots=True)
class _Rule:
    network: Network
    allowed: bool
    by_operator: bool
    note: str

    @property
    def rank(self) -> tuple[int, bool, bool]:
        return self.network.prefixlen, self.by_operator, self.allowed


class EgressPolicy:
    """Decides whether an address may be posted to; call it with the address and the port."""

    def __init__(
        self,
        *,
        deny: Sequence[Network] = (),
        allow: Sequence[Network] = (),
        loopback: bool = False,
        protected_ports: Sequence[ProtectedPort] = (),
        is_local: Callable[[Address], bool] = lambda address: address.is_loopback,
    ) -> None:
        """`loopback` says whether loopback addresses are allowed by default. `is_local` says
        whether an address belongs to this machine.

        Raises ValueError for a network that is both denied and allowed.
        """
        if both := set(deny) & set(allow):
            raise ValueError(
                f"{DENY_SETTING} and {ALLOW_SETTING} both name {min(map(str, both))}: leave it out"
                " of one of them"
            )
        self._rules = [
            *(
                _Rule(ip_network(network), False, False, f"{note}, denied by default")
                for network, note in DENIED_BY_DEFAULT
            ),
            *(
                _Rule(ip_network(network), loopback, False, f"{note}, denied by default")
                for network, note in LOOPBACK
            ),
            *(_Rule(network, False, True, f"denied by {DENY_SETTING}") for network in deny),
            *(_Rule(network, True, True, "") for network in allow),
        ]
        self._protected_ports = tuple(protected_ports)
        self._is_local = is_local

    def __call__(self, address: Address, port: int) -> str:
        """Return why nothing may be posted to `address` and `port`, or an empty string if
        it may.
        """
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # the system connects to the IPv4 address itself
        if reason := self._judge(address, port):
            return f"{address} {reason}"
        for inner in _embedded(address):
            if reason := self._judge(inner, port):
                return f"{address} stands for {inner}, which {reason}"
        return ""

    def _judge(self, address: Address, port: int) -> str:
        for own in self._protected_ports:
            if own.port == port and self._listens(own, address):
                return f"port {port} is {own.purpose}, which takes no events"
        found = [
            rule
            for rule in self._rules
            if rule.network.version == address.version and address in rule.network
        ]
        rule = max(found, key=lambda each: each.rank, default=None)
        return (
            f"is in {rule.network} ({rule.note})" if rule is not None and not rule.allowed else ""
        )

    def _listens(self, own: ProtectedPort, address: Address) -> bool:
        try:
            listening = ip_address(own.host)
        except ValueError:
            return self._is_local(address)
        if listening.is_loopback:
            # The system connects to loopback for the unspecified address.
            return address.is_loopback or address.is_unspecified
        return listening == address or (listening.is_unspecified and self._is_local(address))


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address represents in one of the transition
    mechanisms.
    """
    if isinstance(address, IPv4Address) or address.is_unspecified or address.is_loopback:
        return
    number = int(address)
    last = IPv4Address(number & 0xFFFF_FFFF)
    # IPv4-compatible (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052), ISATAP (RFC 5214).
    if (
        number >> 32 in (0, 0xFFFF_0000)
        or address in _NAT64
        or (number >> 32) & 0xFFFF_FFFF in _ISATAP
    ):
        yield last
    if (sixtofour := address.sixtofour) is not None:
        yield sixtofour
    if (teredo := address.teredo) is not None:
        yield from teredo


def parse_networks(text: str, setting: str) -> tuple[Network, ...]:
    """Parse a comma-separated list of networks in CIDR form and single addresses.

    Raises ValueError with `setting` and the invalid entry.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if len(entries) > NETWORKS_MAX:
        raise ValueError(
            f"{setting} names {len(entries)} networks, at most {NETWORKS_MAX} are taken"
        )
    return tuple(_network(entry, setting) for entry in entries)


def _network(entry: str, setting: str) -> Network:
    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(
            f"{setting}: {entry[:50]!r} is no network such as 10.0.0.0/8 or fd00::/8: {error}"
        ) from None
    if (
        isinstance(network, IPv6Network)
        and network.prefixlen >= 96
        and network.network_address.ipv4_mapped is not None
    ):
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network
