"""The file of the kubeconfig with the token."""

from pathlib import Path

import pytest

from headrace.runtime.loading import load
from headrace_apiserver.kubeconfig import kubeconfig, write_kubeconfig
from headrace_controller.settings import ControllerSettings


@pytest.mark.parametrize("given", [{}, {"kubeconfig_out": Path("-")}])
def test_a_hyphen_means_no_file(given: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As an option and as a variable: no file of that name."""
    monkeypatch.setenv("HEADRACE_CONTROLLER_KUBECONFIG_OUT", "-")
    assert load(ControllerSettings, **given).kubeconfig_out is None
    assert ControllerSettings(kubeconfig_out=Path("./-/x")).kubeconfig_out == Path("./-/x")


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    """Also if a readable file existed before."""
    path = tmp_path / "kubeconfig"
    path.write_text("", encoding="utf-8")
    path.chmod(0o644)
    write_kubeconfig(path, kubeconfig("http://127.0.0.1:8001", token="secret"))
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())
