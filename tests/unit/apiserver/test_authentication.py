"""Authentication: loopback addresses are open, others need tokens or client certificates, and no
address is open by accident.
"""

import asyncio
import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from headrace.domain.errors import Permanent
from headrace.runtime import credential_files
from headrace.runtime.loading import load
from headrace.runtime.sockets import listen, port_of
from headrace_apiserver.authentication import (
    CredentialsAuthenticator,
    InsecureListener,
    User,
    create_authenticator,
    is_loopback_address,
    read_tokens,
    user_from_certificate,
)
from headrace_apiserver.credentials import TlsFiles
from headrace_apiserver.kubeconfig import (
    choose_kubeconfig_path,
    export_line,
    kubeconfig,
    write_kubeconfig,
)
from headrace_apiserver.statuses import StatusError
from headrace_controller.settings import ControllerSettings
from tests.support.certificates import Authority, Certificate
from tests.support.mounted_secret import MountedSecret
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

TOKEN = "correct-horse-battery"
OTHER = "another-token-of-length"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Two tokens, the second with a user of its own."""
    path = tmp_path / "tokens"
    path.write_text(f'# who may\n{TOKEN}\n\n{OTHER},ada,1,"shop,admins"\n')
    return path


def test_an_address_other_than_loopback_needs_credentials(token_file: Path) -> None:
    """The error names every option that protects the API."""
    with pytest.raises(
        InsecureListener,
        match=(
            r"--token-file .*--client-ca-file with --tls-cert-file and --tls-key-file, or listen on"
            r" 127\.0\.0\.1"
        ),
    ):
        create_authenticator("0.0.0.0", token_file=None, client_ca_file=None)
    assert isinstance(
        create_authenticator("0.0.0.0", token_file=token_file, client_ca_file=None),
        CredentialsAuthenticator,
    )
    for host in ("127.0.0.1", "::1"):
        loopback = create_authenticator(host, token_file=None, client_ca_file=None)
        assert "headrace" == loopback.authenticate({}, None).name


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "0:0:0:0:0:0:0:1", "localhost", "LocalHost"]
)
def test_loopback_addresses_are_open(host: str) -> None:
    """All of 127.0.0.0/8, ::1 in any spelling, and the name."""
    assert is_loopback_address(host)


@pytest.mark.parametrize(
    "host",
    [
        "localhost.corp.example",
        "127.example.com",
        "::1234:5",
        "::1:2",
        "127.0.0.1.corp.example",
        "127.1",
        "0.0.0.0",
        "::",
        "",
        "10.0.0.1",
    ],
)
def test_what_only_looks_like_loopback_needs_credentials(host: str) -> None:
    """A name or address that starts like a loopback one may belong to another machine."""
    with pytest.raises(InsecureListener):
        create_authenticator(host, token_file=None, client_ca_file=None)


def test_tokens_identify_users(token_file: Path) -> None:
    """A bare token belongs to the default user, others to the user in their line. Wrong or missing
    ones are 401.
    """
    authenticator = CredentialsAuthenticator(read_tokens(token_file))
    assert "headrace" == authenticator.authenticate({"authorization": f"Bearer {TOKEN}"}, None).name
    assert User("ada", ("shop", "admins", "system:authenticated")) == authenticator.authenticate(
        {"authorization": f"bearer {OTHER}"}, None
    )
    for wrong in (
        {},
        {"authorization": "Bearer nope"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"},
    ):
        with pytest.raises(StatusError) as rejected:
            authenticator.authenticate(wrong, None)
        assert 401 == rejected.value.code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("short\n", "line 1: a token has 16"),
        ("# nothing\n", "no token in it"),
        (f"{TOKEN}\nhas spaces in the middle\n", "line 2"),
    ],
)
def test_errors_in_token_files_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    """They never contain the token."""
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(Permanent, match=message) as rejected:
        read_tokens(path)
    assert "spaces in the middle" not in str(rejected.value)
    with pytest.raises(Permanent, match="No such file"):
        read_tokens(tmp_path / "none")


def test_certificates_identify_users() -> None:
    """The common name is the user, organisations are groups. Without a common name it is a 401."""
    subject = ((("organizationName", "shop"),), (("commonName", "ada"),))
    assert User("ada", ("shop", "system:authenticated")) == user_from_certificate(
        {"subject": subject}
    )
    with pytest.raises(StatusError):
        user_from_certificate({"subject": subject[:1]})


def test_tls_files_belong_together(tmp_path: Path) -> None:
    """The error names the options of every wrong combination."""
    with pytest.raises(Permanent, match="--tls-cert-file and --tls-key-file belong together"):
        TlsFiles(certificate=tmp_path / "c").renewed()
    with pytest.raises(Permanent, match="--client-ca-file needs TLS"):
        TlsFiles(client_ca=tmp_path / "c").renewed()
    with pytest.raises(Permanent, match="no such file"):
        TlsFiles(certificate=tmp_path / "c", key=tmp_path / "k").renewed()
    (tmp_path / "c").write_text("x")
    (tmp_path / "k").write_text("x")
    with pytest.raises(Permanent, match="cannot be used"):
        TlsFiles(certificate=tmp_path / "c", key=tmp_path / "k").renewed()


def test_the_kubeconfig_is_private_and_replaced_atomically(tmp_path: Path) -> None:
    """Mode 0600, with the token; an existing file is replaced. The error for a path that cannot be
    written names the option.
    """
    path = tmp_path / "deep" / "kubeconfig"
    for server in ("http://127.0.0.1:1", "http://127.0.0.1:2"):
        write_kubeconfig(path, kubeconfig(server, token=TOKEN))
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    found = yaml.safe_load(path.read_text())
    assert ("headrace", "http://127.0.0.1:2", "default") == (
        found["current-context"],
        found["clusters"][0]["cluster"]["server"],
        found["contexts"][0]["context"]["namespace"],
    )
    assert TOKEN == found["users"][0]["user"]["token"]
    assert [path] == list(path.parent.iterdir())
    assert f"export KUBECONFIG={path}" == export_line(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent, match="--kubeconfig-out"):
        write_kubeconfig(tmp_path / "file" / "kubeconfig", {})


def test_the_token_file_has_a_variable(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEADRACE_API_TOKEN_FILE, which the command line reads too."""
    monkeypatch.setenv("HEADRACE_API_TOKEN_FILE", str(token_file))
    assert token_file == load(ControllerSettings).token_file


def test_the_kubeconfig_of_a_running_controller_is_not_replaced(tmp_path: Path) -> None:
    """The new one gets a name with its port. A kubeconfig of a server that does not respond, or of
    the same server, is replaced.
    """
    path = tmp_path / "kubeconfig"

    def choose(server: str) -> Path:
        return asyncio.run(choose_kubeconfig_path(path, server))

    assert path == choose("http://127.0.0.1:8002")
    for text in ("", "{", "clusters: 3", "clusters: [{cluster: {server: 'http://[::1'}}]"):
        path.write_text(text)
        assert path == choose("http://127.0.0.1:8002"), text
    with listen("127.0.0.1", 0, purpose="the test", option="") as running:
        port = port_of(running)
        write_kubeconfig(path, kubeconfig(f"http://127.0.0.1:{port}"))
        assert tmp_path / "kubeconfig-8002" == choose("https://127.0.0.1:8002")
        assert path == choose(f"http://127.0.0.1:{port}") == choose(f"http://localhost:{port}")
    assert path == choose("http://127.0.0.1:8002")


def test_a_second_controller_writes_another_kubeconfig(tmp_path: Path) -> None:
    """The first one's stays."""
    path = tmp_path / "kubeconfig"
    settings = ControllerSettings(port=0, kubeconfig_out=path)
    with running_api(settings) as first, running_api(settings) as second:
        beside = path.with_name(f"kubeconfig-{second.url.rpartition(':')[2]}")
        found = [
            yaml.safe_load(each.read_text())["clusters"][0]["cluster"]["server"]
            for each in (path, beside)
        ]
        assert [first.url, second.url] == found


def tls_settings(
    own: Certificate | MountedSecret, tokens: Path, kubeconfig: Path, client_ca: Path | None = None
) -> ControllerSettings:
    """An API with this certificate and tokens, on a free port."""
    return ControllerSettings(
        port=0,
        token_file=tokens,
        tls_cert_file=own.certificate,
        tls_key_file=own.key,
        client_ca_file=client_ca,
        kubeconfig_out=kubeconfig,
    )


@pytest.fixture
def secured(tmp_path: Path, token_file: Path) -> Iterator[tuple[ApiUnderTest, Authority]]:
    """An API on TLS that accepts tokens and the certificates of one authority."""
    authority = Authority(tmp_path / "ca")
    own = authority.sign("api")
    settings = tls_settings(own, token_file, tmp_path / "kubeconfig", client_ca=authority.file)
    with running_api(settings) as api:
        yield api, authority


def test_tokens_and_certificates_over_tls(
    secured: tuple[ApiUnderTest, Authority], tmp_path: Path
) -> None:
    """401 without either, the user of the token or the certificate otherwise. With a certificate of
    another authority there is no connection.
    """
    api, authority = secured
    assert api.url.startswith("https://")
    whoami = f"{api.url}/apis/authentication.k8s.io/v1/selfsubjectreviews"

    def ask(token: str = "", **connection: str) -> tuple[int, dict[str, object]]:
        pool = urllib3.PoolManager(
            ca_certs=str(authority.file),
            retries=False,
            timeout=10,
            **connection,  # type: ignore[arg-type]
        )
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        answer = pool.request("POST", whoami, body=b"{}", headers=headers)
        pool.clear()
        return answer.status, json.loads(answer.data)

    code, status = ask()
    assert (401, "Unauthorized", "Status") == (code, status["reason"], status["kind"])
    assert 401 == ask("wrong-token-wrong-token")[0]
    assert "ada" in str(ask(OTHER)[1]["status"])
    client = authority.sign("grace")
    assert "grace" in str(
        ask(cert_file=str(client.certificate), key_file=str(client.key))[1]["status"]
    )
    foreign = Authority(tmp_path / "other", "other").sign("mallory")
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask(cert_file=str(foreign.certificate), key_file=str(foreign.key))
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert (api.url, TOKEN) == (
        config["clusters"][0]["cluster"]["server"],
        config["users"][0]["user"]["token"],
    )


def test_renewed_files_are_used_by_new_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificate, authority of clients and tokens; the kubeconfig has the new ones. Open
    connections stay.
    """
    monkeypatch.setattr(credential_files, "CHECK_SECONDS", 0.05)
    first, second = (Authority(tmp_path / name, name) for name in ("first", "second"))
    own = MountedSecret(tmp_path / "secret", first.sign("api"), first.file.read_bytes())
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    config = tmp_path / "kubeconfig"
    settings = tls_settings(own, tokens, config, client_ca=own.authorities)
    renewed = second.sign("api")

    def ask(pool: urllib3.PoolManager, url: str, token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return pool.request("GET", f"{url}/api", headers=headers).status

    def pool_of(authority: Authority, **more: Any) -> urllib3.PoolManager:
        return urllib3.PoolManager(
            ca_certs=str(authority.file), retries=False, timeout=10.0, **more
        )

    with running_api(settings) as api, pool_of(first) as before:
        assert 200 == ask(before, api.url, TOKEN)
        own.renew(renewed, second.file.read_bytes())
        tokens.write_text(f"{OTHER}\n")
        wait_until(
            lambda: (
                renewed.certificate.read_bytes() == authority_in(config)
                and OTHER in config.read_text()
            ),
            what="a kubeconfig with the new certificate and token",
        )
        client = second.sign("grace")
        with pool_of(second, cert_file=str(client.certificate), key_file=str(client.key)) as pool:
            assert 200 == ask(pool, api.url)
        outdated = first.sign("ada")
        with (
            pool_of(
                second, cert_file=str(outdated.certificate), key_file=str(outdated.key)
            ) as pool,
            pytest.raises(urllib3.exceptions.HTTPError),
        ):
            ask(pool, api.url)
        # The connection from before, with the certificate from before.
        assert (401, 200) == (ask(before, api.url, TOKEN), ask(before, api.url, OTHER))
        with pool_of(first) as pool, pytest.raises(urllib3.exceptions.SSLError):
            ask(pool, api.url, OTHER)


def test_a_kubeconfig_has_the_certificate_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens are renewed while the file of the certificate has one that cannot be used."""
    monkeypatch.setattr(credential_files, "CHECK_SECONDS", 0.05)
    own = Authority(tmp_path / "ca").sign("api")
    in_use = own.certificate.read_bytes()
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    config = tmp_path / "kubeconfig"
    with running_api(tls_settings(own, tokens, config)):
        own.certificate.write_text("half of a certificate")
        tokens.write_text(f"{OTHER}\n")
        wait_until(lambda: OTHER in config.read_text(), what="a kubeconfig with the new token")
        assert in_use == authority_in(config)


def authority_in(kubeconfig: Path) -> bytes:
    """The authority that a kubeconfig names."""
    (cluster,) = yaml.safe_load(kubeconfig.read_text())["clusters"]
    return base64.b64decode(cluster["cluster"]["certificate-authority-data"])
