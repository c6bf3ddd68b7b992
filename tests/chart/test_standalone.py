"""The standalone mode: the API of the controller, its certificate and its token."""

import base64
import ssl
from pathlib import Path

import pytest
import yaml

from headrace_controller.settings import ControllerSettings
from tests.chart.rendering import Object, named, objects, pods, services

HOST = "headrace-controller.knative-eventing.svc.cluster.local"


@pytest.fixture(name="secret")
def _secret() -> dict[str, bytes]:
    """The content of the generated Secret."""
    data = named("standalone", "Secret", "headrace-api")["data"]
    return {key: base64.b64decode(text) for key, text in data.items()}


def _handshake(directory: Path, secret: dict[str, bytes], host: str) -> None:
    """A TLS handshake in memory, with a client that checks certificates strictly."""
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (directory / name).write_bytes(secret[name])
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    client = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        served.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert [] == ends


@pytest.mark.parametrize(
    "host", [HOST, "headrace-controller", "headrace-controller.knative-eventing.svc", "localhost"]
)
def test_the_certificate_is_for_the_service(
    secret: dict[str, bytes], tmp_path: Path, host: str
) -> None:
    """By each of its names, and for a forwarded port."""
    _handshake(tmp_path, secret, host)


def test_the_certificate_is_for_no_other_host(secret: dict[str, bytes], tmp_path: Path) -> None:
    """A client notices another server."""
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, secret, "headrace-ingress")


def test_the_token_is_random(secret: dict[str, bytes]) -> None:
    """One line of 43 letters and digits, of another installation another one."""
    assert len(secret["token"]) == 43
    assert secret["token"].decode().isalnum()
    [other] = [each for each in objects("standalone", "--no-hooks") if each["kind"] == "Secret"]
    assert secret["token"] != base64.b64decode(other["data"]["token"])


def _paths(pod: Object, volume: str) -> set[str]:
    """The files of a volume, as the container sees them."""
    [container] = pod["containers"]
    [mount] = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == volume]
    [found] = [each for each in pod["volumes"] if each["name"] == volume]
    if "secret" in found:
        keys = named("standalone", "Secret", found["secret"]["secretName"])["data"]
        return {f"{mount}/{key}" for key in keys}
    return {
        f"{mount}/{item['path']}"
        for source in found["projected"]["sources"]
        for each in source.values()
        for item in each["items"]
    }


def test_the_controller_finds_token_and_certificate() -> None:
    """In the volume of the Secret, and it listens for other pods."""
    variables = {
        each["name"]: each.get("value") for each in services("standalone")["controller"]["env"]
    }
    files = _paths(dict(pods("standalone"))["controller"], "api")
    assert {
        variables["HEADRACE_API_TOKEN_FILE"],
        variables["HEADRACE_CONTROLLER_TLS_CERT_FILE"],
        variables["HEADRACE_CONTROLLER_TLS_KEY_FILE"],
    } <= files
    assert "0.0.0.0" == variables["HEADRACE_CONTROLLER_HOST"]
    hosts = ControllerSettings(api_hosts=str(variables["HEADRACE_CONTROLLER_API_HOSTS"]))
    assert {HOST, "headrace-controller"} <= hosts.host_names()
    assert ["controller"] == services("standalone")["controller"]["args"]


def test_the_service_of_the_api() -> None:
    """On the port of HTTPS, so that clients need no port."""
    [port] = named("standalone", "Service", "headrace-controller")["spec"]["ports"]
    assert (443, "https") == (port["port"], port["targetPort"])


@pytest.mark.parametrize("name", ["sources", "test"])
def test_clients_find_token_and_authority(name: str) -> None:
    """The kubeconfig has their paths, and no secret."""
    files = _paths(dict(pods("standalone"))[name], "client")
    text = named("standalone", "ConfigMap", "headrace-api-client")["data"]["kubeconfig"]
    kubeconfig = yaml.safe_load(text)
    [cluster], [user] = kubeconfig["clusters"], kubeconfig["users"]
    assert f"https://{HOST}" == cluster["cluster"]["server"]
    assert {user["user"]["tokenFile"], cluster["cluster"]["certificate-authority"]} <= files
    assert "/etc/headrace/client/kubeconfig" in files


def test_an_existing_secret_is_used() -> None:
    """And none is created."""
    [controller] = [pod for name, pod in pods("standalone-own-secret") if name == "controller"]
    [volume] = [each for each in controller["volumes"] if each["name"] == "api"]
    assert "events-api-token" == volume["secret"]["secretName"]
