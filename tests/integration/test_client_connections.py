"""The HTTP sender's connections: reuse, replacement, name resolution, address policy and TLS."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path

import pytest
import uvloop

from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_options import ClientOptions
from headrace.adapters.http.client_resolver import ResolutionFailed, Resolver
from headrace.domain.delivery import Failure
from headrace.domain.egress import EgressPolicy
from tests.support.sender_harness import PostingHarness, posting_harness
from tests.support.subscriber import (
    Subscriber,
    after,
    close,
    hang,
    interim_first,
    ok,
    raw,
    respond,
    serving,
    status,
)
from tests.support.wait_until import wait_until_async

PATIENT = ClientOptions(stale_seconds=10.0)
"""On a busy machine, operations that are otherwise immediate may take longer than half a second."""


def unused_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_connection_is_used_again() -> None:
    """A hundred posts use one connection."""
    async with posting_harness(connections_max=1) as harness:
        await harness.post_all([b""] * 100)
        assert (100, 1) == (len(harness.subscriber.requests), harness.subscriber.connections)


async def test_connections_are_opened_as_needed_and_no_more() -> None:
    """There are as many as concurrent posts, up to the bound."""
    async with posting_harness(after(0.01, ok()), connections_max=3) as harness:
        await harness.post_all([b""] * 2)
        assert 2 == harness.subscriber.connections
        await harness.post_all([b""] * 10)
        assert 3 == harness.subscriber.connections


async def test_the_newest_connection_is_taken_first() -> None:
    """Connections that the load does not need then become old and are closed."""
    async with posting_harness(after(0.005, ok()), connections_max=3) as harness:
        await harness.post_all([b""] * 3)
        for _ in range(5):
            await harness.post()
        assert 1 == len({request.connection for request in harness.subscriber.requests[3:]})


@pytest.mark.parametrize("headers", [[("Connection", "close")], [("Connection", "Close")]])
async def test_a_connection_that_the_peer_will_close_is_not_used_again(
    headers: list[tuple[str, str]],
) -> None:
    """`Connection: close` is honoured."""
    async with posting_harness(status(202, headers=headers)) as harness:
        assert [202, 202] == [(await harness.post()).status for _ in range(2)]
        assert 2 == harness.subscriber.connections


async def test_an_unused_connection_is_closed() -> None:
    """It is closed after `idle_seconds`, without another post."""
    async with posting_harness(options=ClientOptions(idle_seconds=0.1)) as harness:
        await harness.post()
        await harness.subscriber.wait_until_open(0)
        assert 202 == (await harness.post()).status


async def test_an_unused_connection_is_closed_after_the_last_of_several_posts() -> None:
    """The connection is closed regardless of when its last post was."""
    async with posting_harness(
        after(0.08, ok()), options=ClientOptions(idle_seconds=0.2)
    ) as harness:
        for _ in range(3):
            await harness.post()
        await harness.subscriber.wait_until_open(0)


async def test_an_old_connection_is_replaced() -> None:
    """It is replaced after `age_seconds`, so that new addresses of a name are used."""
    async with posting_harness(options=ClientOptions(age_seconds=0.0)) as harness:
        await harness.post()
        await harness.post()
        assert 2 == harness.subscriber.connections


async def test_a_kept_connection_closed_under_the_request_is_replaced_once() -> None:
    """This is the race with a keep-alive timeout of the server. The request is sent again
    immediately on a new connection, and counted.
    """
    async with posting_harness(ok(), close(), ok(), options=PATIENT) as harness:
        await harness.post()
        assert 202 == (await harness.post(b"again")).status
        assert [b"again", b"again"] == [request.body for request in harness.subscriber.requests[1:]]
        assert (2, 1) == (harness.subscriber.connections, harness.sender.counts.stale_retries)


async def test_a_new_connection_closed_under_the_request_is_a_failure() -> None:
    """A new connection cannot be stale."""
    async with posting_harness(close(), ok()) as harness:
        assert Failure.RESET is (await harness.post()).failure
        assert (1, 0) == (len(harness.subscriber.requests), harness.sender.counts.stale_retries)


async def test_the_request_is_repeated_only_once() -> None:
    """After two closed connections, the attempt has failed."""
    async with posting_harness(ok(), close(), options=PATIENT) as harness:
        await harness.post()
        assert Failure.RESET is (await harness.post()).failure
        assert 3 == len(harness.subscriber.requests)


async def test_a_request_is_not_repeated_once_a_byte_has_come() -> None:
    """The subscriber has begun to answer, so it has received the event."""
    async with posting_harness(ok(), raw(b"HTTP/1.1 2", close=True)) as harness:
        await harness.post()
        assert Failure.RESET is (await harness.post()).failure
        assert 2 == len(harness.subscriber.requests)


async def test_a_request_is_not_repeated_when_the_end_comes_late() -> None:
    """If a subscriber processes the request for a while and then closes the connection, the attempt
    has failed.
    """
    async with posting_harness(
        ok(), after(0.1, close()), options=ClientOptions(stale_seconds=0.05)
    ) as harness:
        await harness.post()
        assert Failure.RESET is (await harness.post()).failure
        assert 2 == len(harness.subscriber.requests)


async def test_a_server_that_closes_after_every_few_answers_loses_nothing() -> None:
    """Every event arrives."""
    async with posting_harness(connections_max=2) as harness:
        harness.subscriber.close_after = 3
        outcomes = await harness.post_all([b"%d" % number for number in range(60)])
        assert {202} == {outcome.status for outcome in outcomes}
        assert {b"%d" % number for number in range(60)} == {
            request.body for request in harness.subscriber.requests
        }


async def test_nobody_listening_is_a_connect_failure() -> None:
    """The failure contains address, port and cause."""
    port = unused_port()
    sender = HttpSender()
    harness = PostingHarness(
        sender, Subscriber([]), sender.target(f"http://127.0.0.1:{port}/", connections_max=2)
    )
    outcomes = await harness.post_all([b""] * 5)
    assert {Failure.CONNECT} == {outcome.failure for outcome in outcomes}
    assert f"127.0.0.1 port {port}" in outcomes[0].detail
    assert 5 == sender.counts.connections_failed
    await sender.stop()


async def test_the_deadline_covers_connecting() -> None:
    """A peer that never finishes the TLS handshake delays the attempt only until the deadline."""
    async with serving(hang()) as subscriber:
        sender = HttpSender()
        target = sender.target(subscriber.url.replace("http:", "https:"), connections_max=1)
        outcome = await PostingHarness(sender, subscriber, target).post(timeout_seconds=0.1)
        assert (Failure.TIMEOUT, "no connection within 0.1 s") == (outcome.failure, outcome.detail)
        await sender.stop()


async def test_stopping_drops_everything() -> None:
    """Active, waiting and connecting posts are dropped, nothing is reported, and no connection is
    left.
    """
    async with posting_harness(hang(), connections_max=1) as harness:
        for _ in range(3):
            harness.target.post(b"", b"", timeout_seconds=60, answered=harness.outcomes.append)
        await harness.subscriber.wait_for_requests(1)
        await harness.sender.stop()
        await harness.subscriber.wait_until_open(0)
        assert [] == harness.outcomes


async def test_ipv6_addresses_are_reached() -> None:
    """The URL and the Host header have brackets."""
    try:
        async with PostingByName(["::1"], host="::1", url="http://[::1]:{port}/") as harness:
            assert 202 == (await harness.post()).status
            assert (
                f"[::1]:{harness.subscriber.port}" == harness.subscriber.requests[0].headers["host"]
            )
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


class PostingByName:
    """A subscriber behind a name that resolves to `addresses`."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        host: str = "127.0.0.1",
        url: str = "http://subscriber.example:{port}/",
        options: ClientOptions | None = None,
    ) -> None:
        self.asked: list[str] = []
        self._addresses = addresses
        self._url = url
        self._options = options
        self._serving = serving(ok(), host=host)

    def resolve(self, host: str) -> Sequence[str]:
        """Return the addresses, as the resolver does."""
        self.asked.append(host)
        return self._addresses

    async def __aenter__(self) -> PostingHarness:
        subscriber = await self._serving.__aenter__()
        self.sender = HttpSender(self._options, lookup=self.resolve)
        target = self.sender.target(self._url.format(port=subscriber.port), connections_max=2)
        return PostingHarness(self.sender, subscriber, target)

    async def __aexit__(self, *error: object) -> None:
        await self.sender.stop()
        await self._serving.__aexit__(None, None, None)


async def test_a_name_is_looked_up_once_for_many_connections() -> None:
    """Lookups are shared and cached for a while. Host is the name."""
    chosen = PostingByName(["127.0.0.1"])
    async with chosen as harness:
        await harness.post_all([b""] * 4)
        await harness.subscriber.wait_until_open(2)
        assert ["subscriber.example"] == chosen.asked
        assert (
            f"subscriber.example:{harness.subscriber.port}"
            == harness.subscriber.requests[0].headers["host"]
        )


async def test_a_dead_address_is_passed_over() -> None:
    """The next one behind the name is tried within the same attempt."""
    async with PostingByName(["127.0.0.2", "127.0.0.1"]) as harness:
        assert [202] * 4 == [outcome.status for outcome in await harness.post_all([b""] * 4)]


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
async def test_a_forbidden_address_is_refused(address: str) -> None:
    """The policy sees the resolved address, an IPv4-mapped IPv6 address as IPv4, and nothing is
    sent.
    """
    seen: list[IPv4Address | IPv6Address] = []

    policy = EgressPolicy()

    def denied(address: IPv4Address | IPv6Address, port: int) -> str:
        seen.append(address)
        return policy(address, port)

    async with PostingByName([address], options=ClientOptions(address_denied=denied)) as harness:
        outcome = await harness.post()
        assert (Failure.REFUSED, {ip_address(address)}, 0) == (
            outcome.failure,
            set(seen),
            harness.subscriber.connections,
        )
        assert "127.0.0.1 is in 127.0.0.0/8 (loopback, denied by default)" in outcome.detail
        assert outcome.detail == harness.target.denied


async def test_a_name_that_turns_forbidden_gains_nothing() -> None:
    """Of a public and a private address, only the public one is connected to (in this test nobody
    listens there).
    """
    policy = EgressPolicy(allow=[IPv4Network("127.0.0.2/32")])
    async with PostingByName(
        ["127.0.0.1", "127.0.0.2"], options=ClientOptions(address_denied=policy)
    ) as harness:
        outcomes = await harness.post_all([b""] * 3)
        assert ({Failure.CONNECT}, 0) == (
            {outcome.failure for outcome in outcomes},
            harness.subscriber.connections,
        )


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "2130706433",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
]
SPELLINGS += [
    "0",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_odd_spellings_of_an_address_meet_the_policy(host: str) -> None:
    """The system's resolver reads them as 127.0.0.1, and so does the policy."""
    async with serving() as subscriber:
        sender = HttpSender(ClientOptions(address_denied=EgressPolicy()))
        harness = PostingHarness(
            sender,
            subscriber,
            sender.target(f"http://{host}:{subscriber.port}/", connections_max=1),
        )
        assert Failure.REFUSED is (await harness.post()).failure
        assert 0 == subscriber.connections
        await sender.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost"])
async def test_a_denied_address_is_known_before_anything_is_posted(host: str) -> None:
    """A condition can therefore show it immediately, for every spelling of the address."""
    sender = HttpSender(ClientOptions(address_denied=EgressPolicy()))
    target = sender.target(f"http://{host}:1/", connections_max=1)
    await wait_until_async(lambda: bool(target.denied), what="the address is judged")
    assert f"the egress policy denies {host}:1" in target.denied
    await sender.stop()


async def test_the_address_that_is_connected_to_is_the_one_that_was_judged() -> None:
    """A name that changes its address with every lookup is checked for every connection, and no
    lookup follows the check.
    """
    answers = iter(["192.0.2.1", "127.0.0.1", "127.0.0.1"])
    judged: list[str] = []
    policy = EgressPolicy()

    def denied(address: IPv4Address | IPv6Address, port: int) -> str:
        judged.append(str(address))
        return policy(address, port)

    async with serving() as subscriber:
        options = ClientOptions(address_denied=denied, addresses_seconds=0.0, connect_seconds=0.2)
        sender = HttpSender(options, lookup=lambda host: [next(answers)])
        harness = PostingHarness(
            sender,
            subscriber,
            sender.target(f"http://rebound.example:{subscriber.port}/", connections_max=1),
        )
        outcomes = [await harness.post(timeout_seconds=1.0) for _ in range(2)]
        assert Failure.REFUSED is outcomes[-1].failure
        assert {"192.0.2.1", "127.0.0.1"} == set(judged)
        assert 0 == subscriber.connections
        await sender.stop()


async def test_a_name_that_does_not_exist_is_a_connect_failure() -> None:
    """The failure is temporary, because the name may exist later. The message contains the name."""

    def missing(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    sender = HttpSender(lookup=missing)
    harness = PostingHarness(
        sender, Subscriber([]), sender.target("http://missing.example/", connections_max=1)
    )
    outcome = await harness.post()
    assert (
        Failure.CONNECT,
        "name lookup of missing.example failed: Name or service not known",
    ) == (outcome.failure, outcome.detail)
    await sender.stop()


async def test_a_hanging_resolver_stops_only_its_own_name() -> None:
    """While twenty names have no answer, another name is resolved immediately."""
    release = threading.Event()

    def slow(host: str) -> Sequence[str]:
        if host.startswith("slow"):
            release.wait(20)
        return ["127.0.0.1"]

    addresses = Resolver(asyncio.get_running_loop(), fresh_seconds=10, lookup=slow)
    stuck = [asyncio.ensure_future(addresses.of(f"slow{number}", 0.1)) for number in range(20)]
    assert ("127.0.0.1",) == await addresses.of("fast", 5)
    failures = await asyncio.gather(*stuck, return_exceptions=True)
    assert {ResolutionFailed} == {type(failure) for failure in failures}
    release.set()


async def test_lookups_under_way_are_bounded() -> None:
    """The thirty-third name without an answer is refused immediately, and threads do not
    accumulate.
    """
    release = threading.Event()

    def never(host: str) -> Sequence[str]:
        release.wait(20)
        return []

    addresses = Resolver(asyncio.get_running_loop(), fresh_seconds=10, lookup=never)
    results = await asyncio.gather(
        *(addresses.of(f"name{number}", 0.1) for number in range(40)), return_exceptions=True
    )
    assert 8 == sum("32 other lookups" in str(result) for result in results)
    release.set()


async def test_an_old_answer_serves_while_the_resolver_is_away() -> None:
    """An outage of the resolver does not become an outage of the subscribers."""
    answers: list[Sequence[str] | OSError] = [["10.0.0.1"], OSError("away"), ["10.0.0.2"]]

    def resolve(host: str) -> Sequence[str]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    addresses = Resolver(asyncio.get_running_loop(), fresh_seconds=10, lookup=resolve)
    found = []
    for _ in range(3):
        found.append(await addresses.of("name", 5))
        addresses.forget("name")
    assert [("10.0.0.1",), ("10.0.0.1",), ("10.0.0.2",)] == found


async def test_addresses_are_taken_in_turn() -> None:
    """Connections are distributed over all addresses of a name."""
    addresses = Resolver(
        asyncio.get_running_loop(),
        fresh_seconds=10,
        lookup=lambda host: ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
    )
    assert {"10.0.0.1", "10.0.0.2", "10.0.0.3"} == {
        (await addresses.of("name", 5))[0] for _ in range(3)
    }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost`, with its key in the same file."""
    directory = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        *names,
    ]
    try:
        subprocess.run(
            [*command, "-keyout", directory / "key", "-out", directory / "crt"],
            check=True,
            capture_output=True,
            timeout=30,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    both = directory / "both.pem"
    both.write_text((directory / "key").read_text() + (directory / "crt").read_text())
    return both


@pytest.mark.parametrize(
    ("trusted", "host", "said"),
    [(True, "localhost", ""), (False, "localhost", "self-signed"), (True, "127.0.0.1", "mismatch")],
)
async def test_certificates_are_verified(
    certificate: Path, trusted: bool, host: str, said: str
) -> None:
    """A target's own authorities are trusted, others are not, and the name must match the URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with serving(tls=context) as subscriber:
        sender = HttpSender(lookup=lambda name: ["127.0.0.1"])
        text = certificate.read_text()
        ca_certs = text[text.index("-----BEGIN CERTIFICATE") :] if trusted else None
        target = sender.target(
            f"https://{host}:{subscriber.port}/", connections_max=1, ca_certs=ca_certs
        )
        outcome = await PostingHarness(sender, subscriber, target).post()
        await sender.stop()
    if said:
        assert Failure.CONNECT is outcome.failure
        assert said in outcome.detail
    else:
        assert 202 == outcome.status


async def test_authorities_that_are_no_certificates_are_refused() -> None:
    """They are refused when the target is created, not at the first event."""
    sender = HttpSender()
    with pytest.raises(ValueError, match="CA certificates"):
        sender.target("https://host/", connections_max=1, ca_certs="not PEM")
    await sender.stop()


def test_it_works_on_uvloop() -> None:
    """Services run on this loop."""

    async def work() -> tuple[list[int | None], Failure | None, int]:
        async with posting_harness(
            interim_first(), raw(respond(200), respond(200)), hang(), ok()
        ) as harness:
            statuses = [(await harness.post()).status for _ in range(2)]
            late = (await harness.post(timeout_seconds=0.05)).failure
            await harness.post_all([b"x" * 100_000] * 20)
            return statuses, late, len(harness.subscriber.requests)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert ([202, 200], Failure.TIMEOUT, 23) == runner.run(work())
