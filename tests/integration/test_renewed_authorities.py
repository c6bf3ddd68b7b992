"""Authorities that are renewed in their files, where this process is the client: of Kubernetes API
servers, and of subscribers.
"""

import ssl
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from headrace.adapters.http.client import HttpSender
from headrace.adapters.http.client_dialer import forget_contexts
from headrace.adapters.http.system_authorities import system_authorities
from headrace.adapters.kubernetes import connection
from headrace.adapters.kubernetes.client import ApiServerUnavailable, connect
from headrace.adapters.kubernetes.connection import read_kubeconfig
from headrace.adapters.kubernetes.watcher import WatchApi
from headrace.domain.delivery import Failure
from headrace.domain.errors import NotFound, Temporary
from headrace.resources.kinds import BROKER
from tests.support.certificates import Authority
from tests.support.empty_api import EmptyApi
from tests.support.mounted_secret import MountedSecret
from tests.support.sender_harness import PostingHarness
from tests.support.subscriber import serving


class Server(HTTPServer):
    """An API server whose context can be replaced. A handshake that fails is no error of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), EmptyApi)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        """Accept, and perform the handshake."""
        accepted, address = super().get_request()
        return self.context.wrap_socket(accepted, server_side=True), address

    def use(self, authority: Authority) -> None:
        """Serve a certificate of this authority, and require clients to have one."""
        made = authority.sign("server")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(made.certificate, made.key)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(authority.file)


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    """The present one, and the next one."""
    return Authority(tmp_path / "first", "first"), Authority(tmp_path / "second", "second")


@pytest.fixture
def server() -> Iterator[Server]:
    """An API server."""
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, args=(0.05,))
        thread.start()
        yield started
        started.shutdown()
        thread.join()


async def test_clients_of_an_api_server_accept_its_new_authority(
    tmp_path: Path,
    server: Server,
    authorities: tuple[Authority, Authority],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And show it their new certificate. Files that cannot be used leave the old ones in use."""
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.0)
    first, second = authorities
    secret = MountedSecret(tmp_path / "secret", first.sign("client"), first.file.read_bytes())
    kubeconfig = tmp_path / "kubeconfig"
    user = {
        "client-certificate": str(secret.certificate),
        "client-key": str(secret.key),
    }
    cluster = {
        "server": f"https://127.0.0.1:{server.server_port}",
        "certificate-authority": str(secret.authorities),
    }
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(yaml.safe_dump(document))
    server.use(first)
    client = connect(kubeconfig)
    async with WatchApi(read_kubeconfig(kubeconfig)) as api:

        async def answered() -> None:
            with pytest.raises(NotFound):
                await client.get(BROKER, "default", "orders")
            with pytest.raises(NotFound):
                await api.find("v1", "Pod")

        await answered()
        secret.write(b"no certificate", secret.key.read_bytes())
        with capture_logs() as logs:
            await answered()
            await answered()
        assert {"certificate_not_usable"} == {each["event"] for each in logs}
        server.use(second)
        with pytest.raises(ApiServerUnavailable):
            await client.get(BROKER, "default", "orders")
        with pytest.raises(Temporary):
            await api.find("v1", "Pod")
        secret.renew(second.sign("client"), second.file.read_bytes())
        await answered()
    await client.close()


async def test_subscribers_of_a_new_authority_of_the_system_are_accepted(
    tmp_path: Path, authorities: tuple[Authority, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By new connections to a target that is in use."""
    first, second = authorities
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(first.file.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    forget_contexts()  # Those of other tests.
    made = second.sign("subscriber")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    files = system_authorities()
    sender = HttpSender()
    try:
        async with serving(tls=context) as subscriber:
            target = sender.target(f"https://127.0.0.1:{subscriber.port}/", connections_max=1)
            posting = PostingHarness(sender, subscriber, target)
            assert Failure.CONNECT is (await posting.post()).failure
            bundle.write_text("no certificate")
            with capture_logs() as logs:
                await files.check()
                await files.check()
            assert ["certificate_not_usable"] == [each["event"] for each in logs]
            bundle.write_bytes(first.file.read_bytes() + second.file.read_bytes())
            await files.check()
            assert 202 == (await posting.post()).status
    finally:
        await sender.stop()
        monkeypatch.undo()
        forget_contexts()


async def test_a_machine_without_a_file_of_authorities_has_nothing_to_renew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have a directory of them, or none."""
    paths = ssl.get_default_verify_paths()._replace(cafile=None)  # type: ignore[arg-type]
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    files = system_authorities()
    await files.start()
    await files.check()
    await files.stop()
