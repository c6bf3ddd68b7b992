"""The egress policy: every notation of an address that must not be posted to, and which of several
networks decides.
"""

import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.egress import (
    ALLOW_SETTING,
    DENIED_BY_DEFAULT,
    DENY_SETTING,
    LOOPBACK,
    EgressPolicy,
    ProtectedPort,
    parse_networks,
)
from headrace.runtime.loading import load
from headrace.runtime.settings import BadSettings
from headrace_dispatcher.settings import DispatcherSettings

DENIED = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "169.254.0.1",
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    "64:ff9b:1::a00:1",
]
ALLOWED = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd12::1",
    "8.8.8.8",
    "2606:4700::1111",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
INNER_DENIED = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "255.255.255.255", "100.100.100.200"]


def wrapped(inner: IPv4Address) -> dict[str, IPv6Address]:
    """Return every IPv6 form that represents an IPv4 address."""
    number = int(inner)
    high = random.Random(number).getrandbits(32)
    return {
        "mapped": IPv6Address(0xFFFF << 32 | number),
        "compatible": IPv6Address(number),
        "translated": IPv6Address(0xFFFF_0000 << 32 | number),
        "NAT64": IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        "6to4": IPv6Address(0x2002 << 112 | number << 80 | high),
        "Teredo client": IPv6Address(0x2001_0000 << 96 | high << 64 | (number ^ 0xFFFF_FFFF)),
        "ISATAP": IPv6Address(0x2A00_1450 << 96 | 0x5EFE << 32 | number),
    }


@pytest.mark.parametrize("address", DENIED)
def test_denied_by_default(address: str) -> None:
    """The reason contains the address and its network."""
    reason = EgressPolicy()(ip_address(address), 80)
    assert reason.startswith(address)
    assert "denied by default" in reason


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed_by_default(address: str) -> None:
    """Private networks are allowed, because subscribers usually run there."""
    assert "" == EgressPolicy()(ip_address(address), 80)


@pytest.mark.parametrize("inner", INNER_DENIED)
@pytest.mark.parametrize("form", list(wrapped(IPv4Address(1))))
def test_a_denied_address_is_denied_in_every_form(inner: str, form: str) -> None:
    """An address that a translator or tunnel maps to a denied address is denied too."""
    address = wrapped(IPv4Address(inner))[form]
    assert inner in EgressPolicy()(address, 80) or address.is_unspecified


@given(st.ip_addresses(v=4))
def test_forms_are_judged_as_what_they_stand_for(inner: IPv4Address) -> None:
    """Each form is allowed or denied like the IPv4 address it represents."""
    policy = EgressPolicy()
    for form, address in wrapped(inner).items():
        if form == "Teredo client":
            continue  # the policy also checks its server's address, which is arbitrary here
        if not (address.is_unspecified or address.is_loopback):
            assert bool(policy(inner, 80)) == bool(policy(address, 80)), form


def judged(address: str, *, deny: str = "", allow: str = "", loopback: bool = False) -> bool:
    """Return whether the address is denied under these settings."""
    policy = EgressPolicy(
        deny=parse_networks(deny, DENY_SETTING),
        allow=parse_networks(allow, ALLOW_SETTING),
        loopback=loopback,
    )
    return bool(policy(ip_address(address), 80))


@pytest.mark.parametrize(
    ("address", "settings", "denied"),
    [
        ("10.1.2.3", {"deny": "10.0.0.0/8"}, True),
        ("10.1.2.3", {"deny": "10.0.0.0/8", "allow": "10.1.0.0/16"}, False),
        ("10.1.2.3", {"deny": "10.1.2.3", "allow": "10.0.0.0/8"}, True),
        ("10.1.2.3", {"deny": "0.0.0.0/0,::/0", "allow": "10.0.0.0/8"}, False),
        ("8.8.8.8", {"deny": "0.0.0.0/0, ::/0", "allow": "10.0.0.0/8"}, True),
        ("127.0.0.1", {"allow": "127.0.0.0/8,::1/128"}, False),
        ("::1", {"allow": "127.0.0.0/8,::1/128"}, False),
        ("127.0.0.1", {"allow": "0.0.0.0/0"}, True),
        ("169.254.0.1", {"allow": "169.254.0.0/16"}, False),
        ("169.254.169.254", {"allow": "169.254.0.0/16"}, True),
        ("169.254.169.254", {"allow": "169.254.169.254"}, False),
        ("127.0.0.1", {"loopback": True}, False),
        ("127.0.0.1", {"loopback": True, "deny": "127.0.0.0/8"}, True),
        ("0.0.0.0", {"loopback": True}, True),
        ("10.0.0.1", {"deny": "::ffff:10.0.0.0/104"}, True),
        ("::ffff:10.0.0.1", {"deny": "10.0.0.0/8"}, True),
        ("64:ff9b::a00:1", {"deny": "10.0.0.0/8"}, True),
    ],
)
def test_the_most_specific_network_decides(
    address: str, settings: dict[str, object], denied: bool
) -> None:
    """Between equal networks, the operator's setting overrides the default."""
    assert denied == judged(address, **settings)  # type: ignore[arg-type]


def test_our_own_ports_are_denied_where_they_listen() -> None:
    """They are denied even if loopback is allowed; other ports are not affected."""
    own = [
        ProtectedPort("127.0.0.1", 8001, "the controller's API"),
        ProtectedPort("0.0.0.0", 9464, "the management port"),
    ]
    policy = EgressPolicy(
        loopback=True,
        protected_ports=own,
        is_local=lambda address: str(address) in {"127.0.0.1", "10.0.0.7"},
    )
    assert policy(ip_address("127.0.0.1"), 8001).endswith(
        "port 8001 is the controller's API, which takes no events"
    )
    assert policy(ip_address("::ffff:127.0.0.1"), 8001)
    assert policy(ip_address("::1"), 8001)
    assert policy(ip_address("10.0.0.7"), 9464)
    assert not policy(ip_address("10.0.0.8"), 9464)
    assert not policy(ip_address("10.0.0.7"), 8001)
    assert not policy(ip_address("127.0.0.1"), 8090)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_the_unspecified_address_does_not_lead_to_our_own_ports(address: str) -> None:
    """A connection to the unspecified address reaches loopback, even if the address itself is
    allowed.
    """
    own = [ProtectedPort("127.0.0.1", 8001, "the controller's API")]
    policy = EgressPolicy(
        allow=parse_networks("0.0.0.0/8,::/128", ALLOW_SETTING), protected_ports=own
    )
    assert "takes no events" in policy(ip_address(address), 8001)
    assert not policy(ip_address(address), 8002)


def test_every_default_network_is_one() -> None:
    """There are no duplicates."""
    networks = [ip_network(network) for network, _ in (*DENIED_BY_DEFAULT, *LOOPBACK)]
    assert len(networks) == len(set(networks))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            DENY_SETTING,
            "10.0.0.0/8,localhost",
            "HEADRACE_DISPATCHER_EGRESS_DENY: 'localhost' is no network",
        ),
        (
            ALLOW_SETTING,
            "10.0.0.1/8",
            "HEADRACE_DISPATCHER_EGRESS_ALLOW: '10.0.0.1/8' is no network",
        ),
        (DENY_SETTING, ",".join(f"10.0.{n % 256}.{n // 256}" for n in range(257)), "at most 256"),
    ],
)
def test_bad_networks_end_the_start_with_a_clear_error(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains the variable and the entry."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings) as error:
        load(DispatcherSettings)
    assert said in str(error.value)


def test_a_network_cannot_be_denied_and_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two settings contradict each other."""
    monkeypatch.setenv(DENY_SETTING, "10.0.0.0/8")
    monkeypatch.setenv(ALLOW_SETTING, "10.0.0.0/8")
    with pytest.raises(BadSettings, match=r"both name 10\.0\.0\.0/8"):
        load(DispatcherSettings)
