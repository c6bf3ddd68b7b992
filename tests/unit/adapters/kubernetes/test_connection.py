"""A kubeconfig that cannot be used: the message names the option, the file and the next step."""

from pathlib import Path

import pytest
import yaml

from headrace.adapters.kubernetes.connection import read_kubeconfig
from headrace.adapters.kubernetes.secret_reader import SecretApi
from headrace.domain.errors import Permanent

SECRET = "letmein"
DOCUMENT = {
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": SECRET}}],
    "contexts": [
        {"name": "x", "context": {"cluster": "c", "user": "u"}},
        {"name": "lost", "context": {"cluster": "none", "user": "u"}},
    ],
    "current-context": "x",
}


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(DOCUMENT))
    return path


def test_a_context_of_the_file(path: Path) -> None:
    """Its current one unless another is named."""
    assert "http://127.0.0.1:1" == read_kubeconfig(path).cluster.server
    with pytest.raises(
        Permanent, match=f"--kubeconfig {path}: Context 'other' not found; `kubectl"
    ):
        read_kubeconfig(path, context="other")


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    """Or a directory. Every client says it when it is created, before its first use."""
    for missing in (tmp_path / "none", tmp_path):
        for create in (read_kubeconfig, SecretApi):
            with pytest.raises(Permanent) as caught:
                create(missing)
            assert str(caught.value).startswith(
                f"--kubeconfig {missing}: no such file; name the kubeconfig of a cluster"
            )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "root:x:0:0:root",
        f"{{token: {SECRET}",
        f"\x00{SECRET}",
        "[]",
        "{}",
        "clusters: {a: b}\ncontexts: []",
        yaml.safe_dump(DOCUMENT | {"clusters": [{"name": "c", "cluster": SECRET}]}),
        yaml.safe_dump(DOCUMENT | {"current-context": "lost"}),
    ],
    ids=range(9),
)
def test_other_content(path: Path, content: str) -> None:
    """One sentence, and nothing of the content, which may be a secret."""
    path.write_text(content)
    with pytest.raises(Permanent) as caught:
        read_kubeconfig(path)
    assert str(caught.value).startswith(f"--kubeconfig {path}: not a kubeconfig; `kubectl")
    assert SECRET not in str(caught.value)


def test_bytes_that_are_no_text(path: Path) -> None:
    """As other content."""
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(Permanent, match="not a kubeconfig"):
        read_kubeconfig(path)


def test_no_current_context(path: Path) -> None:
    """The next step shows those of the file."""
    path.write_text(yaml.safe_dump(DOCUMENT | {"current-context": None}))
    with pytest.raises(Permanent, match=r"No current context set.*; `kubectl config get-contexts"):
        read_kubeconfig(path)


def test_no_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Outside a pod KUBECONFIG is used; the message names the option that replaces it."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(Permanent) as caught:
        read_kubeconfig()
    assert str(caught.value).startswith(
        f"KUBECONFIG: Configuration file {tmp_path / 'none'} not found; set --kubeconfig"
    )
