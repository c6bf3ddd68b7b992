"""Which servers the HTTP sender trusts, compared with curl: both connect to the same server with
the same trust anchors.

`Row.curl` is the result of curl in cases where it is known to differ; otherwise both must agree.
"""

import asyncio
import shutil
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.adapters.http.client import HttpSender
from headrace.domain.delivery import Failure
from tests.support.certificate_chains import Chains, Issued
from tests.support.sender_harness import PostingHarness
from tests.support.subscriber import serving

NAME = "events.example.test"
CURL_SECONDS = 20.0


class Pki:
    """The authorities of all rows."""

    def __init__(self, directory: Path) -> None:
        self.chains = chains = Chains(directory)
        self.root = chains.authority("root")
        self.middle = chains.authority("middle", self.root)
        self.low = chains.authority("low", self.middle)
        self.other = chains.authority("other")
        self.expired_root = chains.authority("expired root", days=-1)
        self.expired_middle = chains.authority("expired middle", self.root, days=-1)
        # Like a certificate created by hand: without key usage and key identifiers.
        self.plain_root = chains.authority("plain", extensions=["basicConstraints=CA:TRUE"])
        self.no_authority = chains.authority(
            "no authority", self.root, extensions=["basicConstraints=critical,CA:FALSE"]
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A server, what is trusted, and whether an event may be posted."""

    name: str
    accepted: bool
    server: Callable[[Pki], Issued]
    sent: Callable[[Pki], Sequence[Issued]] = lambda pki: ()
    """Sent by the server after its own certificate."""
    anchors: Callable[[Pki], Sequence[Issued]] | None = lambda pki: [pki.root]
    """None: the server's own certificate."""
    host: str = NAME
    curl: bool | None = None
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    )


def leaf(
    *names: str,
    by: str = "root",
    days: int = 2,
    common_name: str = "server",
    usage: str = "serverAuth",
) -> Callable[[Pki], Issued]:
    """Return a factory of server certificates, by default for `NAME`."""

    def make(pki: Pki) -> Issued:
        return pki.chains.server(
            getattr(pki, by),
            *(names or (f"DNS:{NAME}",)),
            days=days,
            common_name=common_name,
            usage=usage,
        )

    return make


def authorities(*names: str) -> Callable[[Pki], Sequence[Issued]]:
    """Return a factory of these attributes of `Pki`, in this order."""
    return lambda pki: [getattr(pki, name) for name in names]


def nameless(common_name: str) -> Callable[[Pki], Issued]:
    """Return a factory of certificates whose only name is the common name."""
    return lambda pki: pki.chains.server(pki.root, common_name=common_name)


TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
ROWS = (
    # Chains and anchors.
    Row("root is the anchor", True, leaf()),
    Row("another root is the anchor", False, leaf(), anchors=authorities("other")),
    Row("nothing is an anchor", False, leaf(), anchors=authorities()),
    Row("intermediate is sent", True, leaf(by="middle"), sent=authorities("middle")),
    Row("intermediate is missing", False, leaf(by="middle")),
    Row("intermediate is the anchor", True, leaf(by="middle"), anchors=authorities("middle")),
    Row(
        "intermediate is the anchor and is sent",
        True,
        leaf(by="middle"),
        sent=authorities("middle"),
        anchors=authorities("middle"),
    ),
    Row(
        "intermediate is the anchor, and the root is sent",
        True,
        leaf(by="middle"),
        sent=authorities("middle", "root"),
        anchors=authorities("middle"),
    ),
    Row("low intermediate is the anchor", True, leaf(by="low"), anchors=authorities("low")),
    Row(
        "upper intermediate is the anchor",
        True,
        leaf(by="low"),
        sent=authorities("low"),
        anchors=authorities("middle"),
    ),
    Row(
        "upper intermediate is the anchor, lower is missing",
        False,
        leaf(by="low"),
        anchors=authorities("middle"),
    ),
    Row("chain in the wrong order", True, leaf(by="low"), sent=authorities("middle", "low")),
    Row("anchor among others", True, leaf(by="middle"), anchors=authorities("other", "middle")),
    Row(
        "self-signed server is the anchor",
        True,
        lambda pki: pki.chains.server(None, f"DNS:{NAME}"),
        anchors=None,
    ),
    Row("signed server is the anchor", True, leaf(), anchors=None),
    Row("self-signed server", False, lambda pki: pki.chains.server(None, f"DNS:{NAME}")),
    Row("issuer is no authority", False, leaf(by="no_authority"), sent=authorities("no_authority")),
    Row(
        "anchor without key usage and identifiers",
        True,
        leaf(by="plain_root"),
        anchors=authorities("plain_root"),
    ),
    Row("certificate of a client", False, leaf(usage="clientAuth")),
    # Expiry.
    Row("expired server", False, leaf(days=-1)),
    Row("expired root", False, leaf(by="expired_root"), anchors=authorities("expired_root")),
    Row(
        "expired intermediate",
        False,
        leaf(by="expired_middle"),
        sent=authorities("expired_middle"),
    ),
    Row(
        "expired intermediate is the anchor",
        False,
        leaf(by="expired_middle"),
        anchors=authorities("expired_middle"),
    ),
    # Names.
    Row("another name", False, leaf("DNS:other.example.test")),
    Row("upper case in the URL", True, leaf(), host=NAME.upper()),
    Row("upper case in the certificate", True, leaf(f"DNS:{NAME.upper()}")),
    Row("trailing dot in the URL", True, leaf(), host=f"{NAME}."),
    Row("trailing dot, upper case", True, leaf(), host=f"{NAME.upper()}."),
    Row("trailing dot and a wildcard", True, leaf("DNS:*.example.test"), host=f"{NAME}."),
    Row("second of several names", True, leaf("DNS:a.test", f"DNS:{NAME}")),
    Row(
        "internationalised name",
        True,
        leaf("DNS:xn--bcher-kva.example.test"),
        host="xn--bcher-kva.example.test",
    ),
    Row(
        "internationalised name, upper case",
        True,
        leaf("DNS:xn--bcher-kva.example.test"),
        host="XN--BCHER-KVA.example.test",
    ),
    Row(
        "internationalised name under a wildcard",
        True,
        leaf("DNS:*.example.test"),
        host="xn--bcher-kva.example.test",
    ),
    Row("underscore", True, leaf("DNS:my_events.example.test"), host="my_events.example.test"),
    Row("wildcard", True, leaf("DNS:*.example.test")),
    Row("wildcard of two labels", False, leaf("DNS:*.test")),
    Row("wildcard for the domain itself", False, leaf(f"DNS:*.{NAME}")),
    Row("wildcard in the middle", False, leaf("DNS:events.*.test")),
    Row("wildcard for a part of a label", False, leaf("DNS:ev*.example.test")),
    Row("bare wildcard", False, leaf("DNS:*")),
    Row("wildcard of a top-level domain", False, leaf("DNS:*.test"), host="events.test"),
    Row("common name alone", True, nameless(NAME)),
    Row("common name beside other names", False, leaf("DNS:other.test", common_name=NAME)),
    # Addresses.
    Row("IPv4 address", True, leaf("IP:127.0.0.1"), host="127.0.0.1"),
    Row("another IPv4 address", False, leaf("IP:127.0.0.2"), host="127.0.0.1"),
    Row("IPv4 address as a DNS name", False, leaf("DNS:127.0.0.1"), host="127.0.0.1"),
    Row("IPv4 address under a wildcard", False, leaf("DNS:*.0.0.1"), host="127.0.0.1"),
    # curl compares the address with the common name as if it were a name; Go and OpenSSL do not.
    Row(
        "IPv4 address as the common name", False, nameless("127.0.0.1"), host="127.0.0.1", curl=True
    ),
    Row("name for a server with an address only", False, leaf("IP:127.0.0.1")),
    # Versions.
    Row("TLS 1.2", True, leaf(), versions=(TLS12, TLS12)),
    Row("TLS 1.3", True, leaf(), versions=(TLS13, TLS13)),
    Row(
        "TLS 1.2, intermediate is the anchor",
        True,
        leaf(by="middle"),
        anchors=authorities("middle"),
        versions=(TLS12, TLS12),
    ),
    Row(
        "TLS 1.3, intermediate is the anchor",
        True,
        leaf(by="middle"),
        anchors=authorities("middle"),
        versions=(TLS13, TLS13),
    ),
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    """The authorities, created once."""
    yield Pki(tmp_path_factory.mktemp("pki"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_sender_trusts_whom_curl_trusts(pki: Pki, row: Row, tmp_path: Path) -> None:
    """Both also send the same server name."""
    issued = row.server(pki)
    chain = tmp_path / "chain.pem"
    chain.write_text("".join(each.text for each in (issued, *row.sent(pki))))
    anchors = tmp_path / "anchors.pem"
    anchors.write_text(
        "".join(each.text for each in ([issued] if row.anchors is None else row.anchors(pki)))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = row.versions
    context.load_cert_chain(chain, issued.key)
    asked: list[str | None] = []
    context.sni_callback = lambda connection, name, of: asked.append(name)
    async with serving(tls=context) as subscriber:
        url = f"https://{row.host}:{subscriber.port}/"
        sender = HttpSender(lookup=lambda name: ["127.0.0.1"])
        target = sender.target(url, connections_max=1, ca_certs=anchors.read_text() or None)
        outcome = await PostingHarness(sender, subscriber, target).post()
        await sender.stop()
        assert row.accepted == (outcome.status == 202), outcome
        assert row.accepted or outcome.failure is Failure.CONNECT
        is_address = row.host[0].isdigit()
        assert [None if is_address else row.host.lower().rstrip(".")] == asked
        if shutil.which("curl") is None:
            pytest.skip("not compared here: curl is not there; what the sender does is as expected")
        accepted, said = await _curl(url, row.host, subscriber.port, anchors)
        assert (row.accepted if row.curl is None else row.curl) == accepted, said
        assert asked[:1] == asked[1:]


async def _curl(url: str, host: str, port: int, anchors: Path) -> tuple[bool, str]:
    """Return whether curl gets an answer, and its output."""
    trust = ["--cacert", str(anchors)] if anchors.read_text() else []
    names = [f"{name}:{port}:127.0.0.1" for name in dict.fromkeys((host, host.rstrip(".")))]
    resolve = [word for each in names for word in ("--resolve", each)]
    command = [
        "curl",
        "--disable",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        *trust,
        *resolve,
        "--data",
        "{}",
        url,
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(CURL_SECONDS):
        output, _ = await process.communicate()
    return process.returncode == 0, output.decode(errors="replace")
