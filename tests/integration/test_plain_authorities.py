"""An API server whose CA certificate has no key usage, as those of many clusters, is accepted on
each version of Python: 3.13 and later would reject it by default.
"""

import ssl
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from headrace.adapters.kubernetes.client import connect
from headrace.adapters.kubernetes.connection import read_kubeconfig
from headrace.adapters.kubernetes.secret_reader import SecretApi
from headrace.adapters.kubernetes.watcher import WatchApi
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import NotFound
from headrace.resources.kinds import BROKER
from headrace_cli.client import ApiClient, ApiFailure
from tests.support.certificates import Authority
from tests.support.empty_api import EmptyApi


@pytest.fixture(autouse=True)
def _as_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    create = ssl.create_default_context

    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = create(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One whose certificate only says that it is a CA."""
    return Authority(tmp_path / "certificates", "plain", key_usage=False)


@pytest.fixture
def server(authority: Authority) -> Iterator[str]:
    """The URL of an HTTPS server that it has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made = authority.sign("server")
    context.load_cert_chain(made.certificate, made.key)
    with HTTPServer(("127.0.0.1", 0), EmptyApi) as started:
        started.socket = context.wrap_socket(started.socket, server_side=True)
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{started.server_port}"
        started.shutdown()
        thread.join()


@pytest.fixture
def kubeconfig(tmp_path: Path, server: str, authority: Authority) -> Path:
    """A kubeconfig for it."""
    path = tmp_path / "kubeconfig"
    cluster = {"server": server, "certificate-authority": str(authority.file)}
    names = {"cluster": "c", "user": "u"}
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": names}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_certificate_is_one_that_is_rejected_by_default(
    server: str, authority: Authority
) -> None:
    """Otherwise the other tests would show nothing."""
    context = ssl.create_default_context(cafile=str(authority.file))
    with (
        urllib3.PoolManager(ssl_context=context, retries=False) as pool,
        pytest.raises(urllib3.exceptions.SSLError, match="key usage"),
    ):
        pool.request("GET", server)


async def test_the_services_accept_it(kubeconfig: Path) -> None:
    """The client of the resources, that of Secrets, and that of ApiServerSources."""
    client = connect(kubeconfig)
    with pytest.raises(NotFound):
        await client.get(BROKER, "default", "orders")
    await client.close()
    secrets = SecretApi(kubeconfig)
    assert await secrets.read("default", "orders") is None
    await secrets.close()
    async with WatchApi(read_kubeconfig(kubeconfig)) as api:
        with pytest.raises(NotFound):
            await api.find("v1", "Pod")


def test_the_command_line_accepts_it(server: str, authority: Authority) -> None:
    """With `--certificate-authority`; without, the server is refused."""
    with pytest.raises(ApiFailure) as caught:
        ApiClient(server, certificate_authority=authority.file).call("GET", "/version")
    assert caught.value.code == 404
    with pytest.raises(ApiFailure, match="no answer") as caught:
        ApiClient(server).call("GET", "/version")
    assert caught.value.code == 0


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Before any request."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(ApiFailure, match=f"--certificate-authority .*{name}: no CA"):
            ApiClient("https://127.0.0.1:1", certificate_authority=tmp_path / name)


def test_nats_accepts_it(authority: Authority) -> None:
    """With the settings of a connection over TLS."""
    options = NatsOptions(servers=("tls://127.0.0.1:4222",), ca_file=authority.file)
    context: ssl.SSLContext = options.client()["tls"]
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.check_hostname
