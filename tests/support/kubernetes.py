"""A real kube-apiserver with etcd for tests: the binaries of `KUBEBUILDER_ASSETS` (the envtest
convention) or of PATH.

There is no controller manager, scheduler or node: no Pods run, nothing is garbage-collected and no
service accounts are created. A test gets the API itself: CRDs with their schemas and CEL rules,
watches, optimistic concurrency, RBAC.
"""

import contextlib
import gc
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.headrace_under_test import lasting_port
from tests.support.shared_installation import SHARED
from tests.support.wait_until import wait_until

READY_SECONDS = 60.0
UNPROVEN = (
    "not proven here: needs etcd and kube-apiserver; name their folder in KUBEBUILDER_ASSETS or put"
    " them on PATH (.ci/kube-tools builds them with the Go toolchain)"
)
BUILT = Path.home() / ".cache" / "headrace" / "kube"
"""Where `.ci/kube-tools` writes the binaries."""
CRDS = Path(__file__).parents[2] / "charts" / "headrace" / "files" / "crds"


@dataclass(frozen=True, slots=True)
class KubernetesUnderTest:
    """A running API server; `kubeconfig` is that of a cluster administrator."""

    server: str
    directory: Path
    kubeconfig: Path
    ca: Path
    token: str
    etcd: int
    """Port of etcd."""

    @contextlib.contextmanager
    def another_api_server(self) -> "Iterator[KubernetesUnderTest]":
        """A second API server over the same objects, which has just started: it has no history, so
        a watch from an earlier resourceVersion is 410 Gone.
        """
        directory = self.directory / f"another-{secrets.token_hex(4)}"
        directory.mkdir()
        binaries = {"kube-apiserver": str(tool("kube-apiserver"))}
        with contextlib.ExitStack() as processes:
            yield _serve(directory, self.directory, binaries, processes, self.etcd, self.token)

    @property
    def authorization(self) -> dict[str, str]:
        """The administrator's Authorization header."""
        return {"Authorization": f"Bearer {self.token}"}

    def kubeconfig_of(self, user: str, token: str) -> Path:
        """A kubeconfig for a user of the token file."""
        path = self.directory / f"kubeconfig-{user}"
        write_kubeconfig(path, self.server, self.ca, token)
        return path

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        return subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            text=True,
            capture_output=True,
            check=check,
            timeout=60,
        )

    def install_crds(self) -> str:
        """Apply the project's CRDs and wait until they are served; returns kubectl's output,
        warnings included.
        """
        applied = self.kubectl("apply", "--server-side", "-f", str(CRDS))
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        return applied.stdout + applied.stderr


def tool(name: str) -> str | None:
    """The path of a binary of the API server; None if it is not found."""
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), BUILT):
        if folder and (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    return shutil.which(name)


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[KubernetesUnderTest]:
    """An API server for this session, with the project's CRDs; skips without binaries."""
    with empty_api_server() as found:
        found.install_crds()
        yield found
        # It may still be used by the installation that files share.
        SHARED.close()


@contextlib.contextmanager
def empty_api_server() -> Iterator[KubernetesUnderTest]:
    """An API server without the project's CRDs; skips without binaries."""
    binaries = {name: tool(name) for name in ("etcd", "kube-apiserver", "kubectl", "openssl")}
    if absent := [name for name, path in binaries.items() if path is None]:
        pytest.skip(f"{UNPROVEN}; missing: {', '.join(absent)}")
    with (
        tempfile.TemporaryDirectory(prefix="headrace-kube-") as folder,
        contextlib.ExitStack() as processes,
    ):
        yield _start(Path(folder), {name: str(path) for name, path in binaries.items()}, processes)


def sweep_handshakes() -> None:
    """Collect garbage that stopped stores have left; call it after they have stopped.

    The API's HTTP client (httpcore2 2.x over anyio) closes a connection whose TLS handshake fails,
    but not one whose handshake is cancelled. The socket is closed by the next garbage collection,
    and its ResourceWarning would fail whatever test is running then.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


CONTROLLER_TOKEN = secrets.token_hex(16)
CONTROLLER_USER = "system:serviceaccount:knative-eventing:headrace-controller"
SOURCES_TOKEN = secrets.token_hex(16)
SOURCES_USER = "system:serviceaccount:knative-eventing:headrace-sources"


def _start(
    directory: Path, binaries: dict[str, str], processes: contextlib.ExitStack
) -> KubernetesUnderTest:
    etcd, peer = lasting_port(), lasting_port()
    key, tokens, token = directory / "sa.key", directory / "tokens.csv", secrets.token_hex(16)
    subprocess.run(
        [binaries["openssl"], "genrsa", "-out", str(key), "2048"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    tokens.write_text(
        f'{token},admin,admin,"system:masters"\n{CONTROLLER_TOKEN},{CONTROLLER_USER},controller,"system:serviceaccounts"\n'
        f'{SOURCES_TOKEN},{SOURCES_USER},sources,"system:serviceaccounts"\n'
    )
    _run(
        processes,
        directory / "etcd.log",
        _etcd(binaries["etcd"], directory / "etcd", client=etcd, peer=peer),
    )
    return _serve(directory, directory, binaries, processes, etcd, token)


def _serve(
    directory: Path,
    credentials: Path,
    binaries: Mapping[str, str],
    processes: contextlib.ExitStack,
    etcd: int,
    token: str,
) -> KubernetesUnderTest:
    """Start an API server; `credentials` is the directory with the key and the tokens."""
    api = lasting_port()
    key, tokens = credentials / "sa.key", credentials / "tokens.csv"
    _run(
        processes,
        directory / "kube-apiserver.log",
        _api_server(
            binaries["kube-apiserver"], directory, port=api, etcd=etcd, tokens=tokens, key=key
        ),
    )
    server, ca = f"https://127.0.0.1:{api}", directory / "certificates" / "apiserver.crt"
    wait_until(
        lambda: _is_ready(server, ca, token),
        READY_SECONDS,
        f"the API server is ready, see {directory}",
        every=0.2,
    )
    kubeconfig = directory / "kubeconfig"
    write_kubeconfig(kubeconfig, server, ca, token)
    return KubernetesUnderTest(server, directory, kubeconfig, ca, token, etcd)


def _etcd(binary: str, data: Path, *, client: int, peer: int) -> list[str]:
    return [
        binary,
        "--name=test",
        f"--data-dir={data}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=test=http://127.0.0.1:{peer}",
    ]


def _api_server(
    binary: str, directory: Path, *, port: int, etcd: int, tokens: Path, key: Path
) -> list[str]:
    return [
        binary,
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--cert-dir={directory / 'certificates'}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--endpoint-reconciler-type=none",
        "--profiling=false",
        "--disable-admission-plugins=ServiceAccount",
    ]


def _run(processes: contextlib.ExitStack, log: Path, command: list[str]) -> None:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def end() -> None:
        process.terminate()
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    processes.callback(end)


def _is_ready(server: str, ca: Path, token: str) -> bool:
    if not ca.is_file():
        return False
    try:
        request = urllib.request.Request(
            f"{server}/readyz", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(
            request, context=ssl.create_default_context(cafile=str(ca)), timeout=2.0
        ) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def write_kubeconfig(path: Path, server: str, ca: Path, token: str) -> None:
    """Write a kubeconfig with a token."""
    cluster = {"server": server, "certificate-authority": str(ca)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}
        ],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
