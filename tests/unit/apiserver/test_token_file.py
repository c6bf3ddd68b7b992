"""The token file that the controller creates at its first start, and files that other users can
read.
"""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.adapters.private_directory import make_private
from headrace.domain.errors import Permanent
from headrace.runtime.loading import load
from headrace_apiserver.authentication import read_tokens
from headrace_apiserver.kubeconfig import kubeconfig, write_kubeconfig
from headrace_apiserver.token_file import create_token_file, world_readable
from headrace_controller.settings import ControllerSettings
from tests.unit.apiserver.running_api import running_api


def test_a_token_file_is_created_once(tmp_path: Path) -> None:
    """Random, readable by its owner only, and not replaced afterwards."""
    path, other = tmp_path / "deep" / "tokens", tmp_path / "other"
    assert create_token_file(path)
    assert not create_token_file(path)
    assert create_token_file(other)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(path.parent.iterdir())
    (created,), (another,) = read_tokens(path), read_tokens(other)
    assert created != another
    assert len(created) > 40
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent, match="--create-token-file"):
        create_token_file(tmp_path / "file" / "tokens")


def test_the_api_accepts_the_token_that_it_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enabled by a variable, as in docker compose."""
    tokens = tmp_path / "tokens"
    monkeypatch.setenv("HEADRACE_API_TOKEN_FILE", str(tokens))
    monkeypatch.setenv("HEADRACE_CONTROLLER_CREATE_TOKEN_FILE", "true")
    with running_api(load(ControllerSettings, host="0.0.0.0", port=0)) as api:
        api.url = api.url.replace("0.0.0.0", "127.0.0.1")
        assert 401 == api.call("GET", "/api")[0]
        assert (
            200
            == api.call(
                "GET", "/api", headers={"Authorization": f"Bearer {tokens.read_text().strip()}"}
            )[0]
        )


@pytest.mark.parametrize("loopback", [True, False])
def test_exposed_secrets_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, loopback: bool
) -> None:
    """Tokens that are sent without TLS, and a token file that every user can read. No token is in
    the log.
    """
    tokens = tmp_path / "tokens"
    tokens.write_text("token-of-the-test-0123456789")
    tokens.chmod(0o600 if loopback else 0o644)
    with running_api(
        ControllerSettings(host="127.0.0.1" if loopback else "0.0.0.0", port=0, token_file=tokens)
    ):
        pass
    logged = caplog.text
    assert loopback is ("tokens_sent_without_tls" not in logged)
    assert loopback is ("secret_file_world_readable" not in logged)
    assert "0123456789" not in logged


def test_world_readable_secrets_are_found(tmp_path: Path) -> None:
    """By option. A file that does not exist is not an error here."""
    (tmp_path / "open").write_text("")
    (tmp_path / "closed").write_text("")
    (tmp_path / "open").chmod(0o604)
    (tmp_path / "closed").chmod(0o640)
    files = {
        "--a": tmp_path / "open",
        "--b": tmp_path / "closed",
        "--c": None,
        "--d": tmp_path / "none",
    }
    assert {"--a": tmp_path / "open"} == world_readable(files)


def test_the_data_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Created with mode 0700, whatever the umask. If it is open, its mode is changed, with a
    warning. Other directories stay as they are.
    """
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        make_private(Path(".headrace/kafka"))
        assert [0o700, 0o700] == [
            stat.S_IMODE(Path(each).stat().st_mode) for each in (".headrace", ".headrace/kafka")
        ]
        Path(".headrace").chmod(0o755)
        Path("other").mkdir(mode=0o755)
        with capture_logs() as logs:
            write_kubeconfig(Path(".headrace/kubeconfig"), kubeconfig("http://127.0.0.1:1"))
            write_kubeconfig(Path("other/kubeconfig"), kubeconfig("http://127.0.0.1:1"))
    finally:
        os.umask(before)
    assert [0o700, 0o755] == [
        stat.S_IMODE(Path(each).stat().st_mode) for each in (".headrace", "other")
    ]
    assert [("directory_was_open_to_other_users", ".headrace", "755")] == [
        (each["event"], each["directory"], each["old_mode"]) for each in logs
    ]
