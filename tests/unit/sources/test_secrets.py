"""Secrets as an API has them, and in files."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.runtime.loading import load
from headrace.runtime.settings import BadSettings
from headrace_sources.secrets import ApiSecrets, decode
from headrace_sources.settings import SourcesSettings
from headrace_sources.source import SourceFault

SETTING = "HEADRACE_SOURCES_DATA_DIRECTORIES"


def secret(directory: Path | str) -> Mapping[str, Any]:
    """A Secret whose values are files."""
    annotations = {"headrace.dev/data-from": str(directory)}
    return {"metadata": {"resourceVersion": "7", "annotations": annotations}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with one value, below one that is allowed."""
    found = tmp_path / "allowed" / "kafka"
    found.mkdir(parents=True)
    (found / "password").write_bytes(b"s3cret")
    return found


def test_values_of_an_api_are_decoded() -> None:
    """Whatever bytes they are."""
    data = {"key": b64encode(b"\xff\x00").decode()}
    found = decode({"metadata": {"resourceVersion": "7"}, "data": data})
    assert (found.version, found.data) == ("7", {"key": b"\xff\x00"})
    assert "data" not in repr(found)
    assert decode({"metadata": {"resourceVersion": "8"}}).data == {}


def test_values_in_files(directory: Path) -> None:
    """The version changes with them. Directories in it, as in a mounted volume, are left out."""
    roots = (directory.parent,)
    (directory / "..data").mkdir()
    first = decode(secret(directory), roots)
    assert first.data == {"password": b"s3cret"}
    assert decode(secret(directory), roots).version == first.version
    (directory / "password").write_bytes(b"another")
    assert decode(secret(directory), roots).version != first.version


def test_only_allowed_directories_are_read(directory: Path, tmp_path: Path) -> None:
    """None without the setting, and none outside of them, however the path is written. The fault
    names the setting and shows nothing of a file.
    """
    root = directory.parent
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "token").write_bytes(b"t0ken")
    (root / "link").symlink_to(outside)
    refused = [
        (secret(directory), ()),
        (secret(outside), (root,)),
        (secret(root / ".." / "outside"), (root,)),
        (secret(root / "link"), (root,)),
        (secret(f"{root}-more"), (root,)),
        (secret("/"), (root,)),
    ]
    for document, roots in refused:
        with pytest.raises(SourceFault) as fault:
            decode(document, roots)
        assert fault.value.reason == "SecretUnreadable"
        assert SETTING in str(fault.value)
    assert decode(secret(root / "link"), (root, outside)).data == {"token": b"t0ken"}


def test_what_cannot_be_read_is_named(directory: Path) -> None:
    """A directory that is not there, and a file that no Secret may have."""
    roots = (directory.parent,)
    with pytest.raises(SourceFault, match="cannot be read"):
        decode(secret(directory / "missing"), roots)
    (directory / "large").write_bytes(bytes(1_048_577))
    with pytest.raises(SourceFault, match="large is larger than the 1048576 bytes"):
        decode(secret(directory), roots)


async def test_an_api_gives_the_allowed_directories(directory: Path) -> None:
    """To each Secret that it reads."""

    class Api:
        async def read(self, namespace: str, name: str) -> Mapping[str, Any] | None:
            return secret(directory) if name == "kafka" else None

        async def close(self) -> None:
            return None

    found = await ApiSecrets(Api(), (directory.parent,)).read("default", "kafka")
    assert found is not None
    assert found.data == {"password": b"s3cret"}
    assert await ApiSecrets(Api()).read("default", "other") is None
    with pytest.raises(SourceFault, match=SETTING):
        await ApiSecrets(Api()).read("default", "kafka")


def test_the_setting_has_absolute_paths(directory: Path) -> None:
    """Resolved, as the directories of Secrets are."""
    link = directory.parent / "link"
    link.symlink_to(directory)
    settings = SourcesSettings(data_directories=f"{link}, /etc/secrets")
    assert settings.data_roots() == (directory.resolve(), Path("/etc/secrets").resolve())
    assert SourcesSettings().data_roots() == ()
    with pytest.raises(BadSettings, match=f"{SETTING}: secrets is not an absolute path"):
        load(SourcesSettings, data_directories="secrets")
